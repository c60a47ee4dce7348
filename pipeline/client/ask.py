"""Ask: a caller that wants a slot, from its first message to the scheduler until it has one or gives up. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.client.slots import Grant

__all__ = ["Ask", "raise_error_of"]


class Ask:
    """A caller that wants a slot, from its first message to the scheduler until it has one or gives up.

    Args:
        segment: whose slot.
        began: now, in monotonic nanoseconds.
        waits: for its turn; otherwise it wants a slot that is free now.
        end: when it stops to wait; None: never.
    """

    __slots__ = (
        "__weakref__", "began", "done", "end", "error", "grant", "looked_at", "number", "segment", "settles_at",
        "under_way", "waits", "wanted",
    )  # fmt: skip

    def __init__(self, segment: int, began: int, waits: bool, end: int | None = None) -> None:
        self.segment = segment
        self.began = self.looked_at = began
        self.waits = waits
        self.end = end
        #: Otherwise a grant for it goes back.
        self.wanted = True
        #: Of its last message.
        self.number = 0
        #: 0 while it waits; then until when the scheduler may take to say what has come of it.
        self.settles_at = 0
        #: How many requests were under way at its last message.
        self.under_way = 0
        #: Whether it is over. Then it has a grant, or an error, or neither: no slot is free, or its time is over.
        self.done = False
        self.grant: Grant | None = None
        self.error: PipelineError | None = None

    def answer(self, grant: Grant | None, error: PipelineError | None = None) -> None:
        """End it with a grant or an error."""
        if grant is not None:
            grant.keep_for(self)
        self.grant, self.error = grant, error
        self.done = True

    def abandon(self) -> None:
        """Drop it: it gets nothing, and a grant that has come is not kept for it."""
        if self.grant is not None:
            self.grant.let_go(self)
        self.grant, self.done = None, True

    def take(self) -> Grant | None:
        """Its grant; None: no slot is free now, or none became free in time.

        Raises:
            PipelineError: no slot comes, for the reason that it names.
        """
        raise_error_of(self)
        return self.grant


class _Failing(Protocol):
    error: PipelineError | None


def raise_error_of(wait: _Failing) -> None:
    """Raise why something has waited in vain, once, if it did."""
    # An exception refers to the frames that it passes: nothing in them may refer to it in turn.
    error, wait.error = wait.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error
