"""Draft: a slot of the pipeline's memory that the application fills itself. Filling: any slot that is being filled."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.client.future import Future
from pipeline.errors import InvalidRequest, PipelineError
from pipeline.wire.messages import SlotRef
from pipeline.wire.records import NO_ORIGIN, Origin
from shm.handle import TensorHandle

__all__ = ["Draft", "Filling", "HeldDraft"]

Array = NDArray[Any]


class _Owner(Protocol):
    def submit_draft(
        self, draft: Draft, deadline_ms: float | None, priority: int, flush: bool, name: object, origin: Origin
    ) -> Future: ...

    def discard_draft(self, draft: Draft) -> None: ...

    def may_be_called(self) -> bool: ...


class Filling:
    """A slot that is being filled: one writable array for each input."""

    __slots__ = ("__weakref__", "handles", "inputs", "open", "rows", "slot")

    def __init__(
        self, slot: SlotRef, handles: tuple[TensorHandle, ...], views: Mapping[str, Array], rows: int = 0
    ) -> None:
        self.slot = slot
        #: How many rows of a batch it is for (see `inputs.Layout`).
        self.rows = rows
        self.handles = handles
        #: name -> writable view; "json" inputs are their UTF-8 bytes, "bytes" inputs their encoding
        #: (see `shm.elements`). Read-only once it is submitted: the slot is then
        #: the pipeline's, and later another request's. That holds for these arrays, and cannot for slices of them.
        self.inputs = views
        #: Neither submitted nor discarded.
        self.open = True

    @property
    def as_sent(self) -> tuple[TensorHandle, ...]:
        """The handles of the submission. One row has none with an axis of rows: it is sent as what is no batch, and its
        answer gets the axis when it is read."""
        if self.rows != 1:
            return self.handles
        return tuple([handle._replace(shape=handle.shape[1:]) for handle in self.handles])

    def close(self) -> None:
        """Called by the client: the slot is not this draft's any more."""
        self.open = False
        for view in self.inputs.values():
            view.setflags(write=False)

    def __del__(self) -> None:
        # Its slot is another request's from now on, though the application may have kept an array of it.
        if getattr(self, "open", False):
            self.close()


class Draft(Filling):
    """A slot that the application fills. `submit` sends it off.

    A draft that the application drops gives its slot back, as `discard` does.
    """

    __slots__ = ("_owner",)

    def __init__(
        self, owner: _Owner, slot: SlotRef, handles: tuple[TensorHandle, ...], views: Mapping[str, Array],
        rows: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(slot, handles, views, rows)
        self._owner = owner

    def submit(
        self,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        flush: bool = True,
        name: object = "",
        origin: Origin = NO_ORIGIN,
    ) -> Future:
        """Send the request; see `Client.submit`. A draft is submitted, or discarded, once.

        Args:
            origin: the stream that it is part of, when the client began with it, and its trace.

        Raises:
            InvalidRequest: it was submitted or discarded before.
            Unavailable: its slot went with a scheduler that has died.
            ClientMisuse: by another thread or process than the client's.
        """
        if not self.open:
            raise InvalidRequest("this draft was submitted or discarded before; make another one")
        return self._owner.submit_draft(self, deadline_ms, priority, flush, name, origin)

    def discard(self) -> None:
        """Give the slot back unused. A second call does nothing."""
        if self.open:
            self._owner.discard_draft(self)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {view.dtype}{list(view.shape)}" for name, view in self.inputs.items())
        return f"<Draft of {inputs}{'' if self.open else ', submitted or discarded'}>"


class HeldDraft(Draft):
    """A draft that the application has: it may drop it. (What a finaliser raises is lost: `submit` needs none.)"""

    __slots__ = ()

    def __del__(self) -> None:
        # One that was interrupted while it was made is not open yet. Most were submitted.
        if not getattr(self, "open", False):
            return
        # Otherwise (in another thread, or in the middle of a call) the client itself finds that the slot has no draft.
        if self._owner.may_be_called():
            with suppress(PipelineError):
                self.discard()
        super().__del__()
