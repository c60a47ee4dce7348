"""Request: one inference, from a caller's call to its answer. Pure data.

    waiting ──▶ under way ──▶ answered, or failed
       ▲  │         │  ▲
       │  └─ lent ──┼──┘     the caller writes its inputs into the slot itself
       └── again ◀──┘        its scheduler has died, and it has retries left

While it waits it has its inputs, as arrays of the caller's process. Under way it has its `Pending`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.client.draft import Filling
from pipeline.client.future import Pending
from pipeline.client.inputs import Layout
from pipeline.errors import PipelineError
from stages.spec import TensorSpec

__all__ = ["Owner", "Request"]

Array = NDArray[Any]


class Owner(Protocol):
    """What a request is told of (`Request.owner`)."""

    def request_done(self, request: Request) -> None:
        """It is over, or its slot is lent. Called without the mutex."""

    def part_came(self) -> None:
        """Parts of its answer have come. Called without the mutex."""


class Request:
    """One inference.

    Args:
        inputs: arrays by input name, as `inputs.arrays_of` makes them. The caller must not change them while it waits.
        specs: the pipeline's inputs, for which these were made.
        deadline: monotonic nanoseconds after which the answer is not wanted; 0: none.
        priority: 0 is the highest, 9 the lowest.
        name: what logs and stages call it.
        retries: how often it is sent again if the scheduler dies; until then it keeps its inputs.
        in_parts: its parts are wanted as they come (`Queue.parted`).
        shapes: by input name, if the slot is lent to the caller, who writes the inputs; then there are none yet.
        owner: whatever the code around the queue keeps with it, such as a future.
        rows: of a batch that its inputs have, one axis more than their specs, in front; 0: they are none.
        traceparent: the trace that it is part of (see `pipeline.wire.traceparent`); empty: of none.
    """

    __slots__ = (
        "__weakref__", "_error", "deadline", "draft", "in_parts", "inputs", "layout", "name", "number", "owner",
        "parts_told", "pending", "priority", "put_at", "retries", "rows", "segment", "shapes", "specs",
        "traceparent",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Mapping[str, Array],
        specs: Mapping[str, TensorSpec],
        *,
        deadline: int = 0,
        priority: int = 0,
        name: str = "",
        retries: int = 0,
        in_parts: bool = False,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        owner: Any = None,
        rows: int = 0,
        traceparent: str = "",
    ) -> None:
        self.inputs = inputs
        self.specs = specs
        self.deadline = deadline
        self.priority = priority
        self.name = name
        self.retries = retries
        self.in_parts = in_parts
        self.shapes = shapes
        self.owner = owner
        self.rows = rows
        self.traceparent = traceparent
        #: Its slot, while its inputs are being written there by the caller.
        self.draft: Filling | None = None
        #: Where its inputs lie in a slot of a pipeline with these inputs, once that was asked for.
        self.layout: tuple[Mapping[str, TensorSpec], Layout] | None = None
        #: What is known of it once it is sent; None while it waits.
        self.pending: Pending | None = None
        #: Its place among those that wait, from 1 on; 0: it never waited.
        self.number = 0
        #: Monotonic nanoseconds since when it waits.
        self.put_at = 0
        #: The segment that it waits for a slot of; -1: that is not known, since there is no connection.
        self.segment = -1
        #: How many of its parts `Queue.parted` has told of.
        self.parts_told = 0
        self._error: PipelineError | None = None

    @property
    def waits(self) -> bool:
        """Whether it is neither sent nor over."""
        return self.pending is None and self._error is None

    @property
    def done(self) -> bool:
        """Whether it is answered, or has failed."""
        return self._error is not None or (self.pending is not None and self.pending.done())

    @property
    def request(self) -> str:
        """Its id, as logs have it; "" while it waits."""
        return "" if self.pending is None else self.pending.request

    def error(self) -> PipelineError | None:
        """Why it failed, another object each time (see `Pending.error`); None if it did not, or is not done."""
        if self._error is not None:
            return copy(self._error)
        return None if self.pending is None else self.pending.error()

    def fail(self, error: PipelineError) -> None:
        """End it without an answer. Called by the queue."""
        self._error = error
        self.inputs = {}
        self.draft = None

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<Request: failed, {type(self._error).__name__}: {self._error}>"
        return "<Request: waits for a slot>" if self.pending is None else f"<Request: {self.pending!r}>"
