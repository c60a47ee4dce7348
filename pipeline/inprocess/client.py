"""LocalClient: what `pipeline.feeding` needs of a client, over a pipeline in this process.

One request at a time: a second slot is there when the first request has been answered. So stages see the files in
their order, and what a stage prints stands before the line of its file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.client.future import Future
from pipeline.client.traces import by_stage
from pipeline.errors import InvalidRequest, RequestError, request_error
from pipeline.inprocess.pipeline import LocalPipeline
from pipeline.wire.messages import OK, Answer, SlotRef, Submission
from shm.handle import JSON, TensorHandle, itemsize
from shm.layout import ALIGNMENT
from shm.view import SegmentTable
from stages.errors import SpecMismatch
from stages.spec import extents_of
from stages.stage import Array

__all__ = ["LocalClient"]


class LocalResult(Mapping[str, Any]):
    """The outputs of one request, by name; valid within its `with` block."""

    def __init__(self, pipeline: LocalPipeline, answer: Answer) -> None:
        self._pipeline = pipeline
        names = [name for name, _ in pipeline.plan.outputs]
        handles = {name: handle for name, handle in zip(names, answer.outputs) if isinstance(handle, TensorHandle)}
        self._values = {name: _value(pipeline.table, handle) for name, handle in handles.items()}
        self._slots = list({SlotRef(*handle[:3]) for handle in handles.values()})
        #: As of `pipeline.client.future.Result`.
        self.stages = by_stage(answer.trace, [stage.name for stage in pipeline.plan.stages])

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __enter__(self) -> LocalResult:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.release(self._slots)


class LocalFuture(Future):
    """A request that is computed when its client is pumped."""

    __slots__ = ("_pipeline", "submission")

    def __init__(self, pipeline: LocalPipeline, submission: Submission) -> None:
        # Nothing of what a request on its way through other processes has.
        self.tag = submission.tag
        self.answer: Answer | None = None
        self.submitted_ns = time.monotonic_ns()
        self.answered_ns = 0
        self.submission = submission
        self._pipeline = pipeline

    def error(self) -> RequestError | None:
        """Why it failed; None where it did not, or is not done."""
        if self.answer is None or self.answer.code == OK:
            return None
        return request_error(self.answer.code, self.answer.message)

    def compute(self) -> None:
        """Compute it now."""
        self.answer = self._pipeline.run(self.submission)
        self.answered_ns = time.monotonic_ns()

    def get(self, timeout_s: float | None = None) -> LocalResult:  # type: ignore[override]
        """The result of a request that is done.

        Raises:
            RequestError: the request has no answer.
        """
        if not self.done():
            self.compute()
        if (error := self.error()) is not None:
            raise error
        assert self.answer is not None
        return LocalResult(self._pipeline, self.answer)


class LocalDraft:
    """A slot that is being filled; see `pipeline.client.client.Draft`."""

    def __init__(self, client: LocalClient, slot: SlotRef, handles: Mapping[str, TensorHandle]) -> None:
        self._client = client
        self._slot = slot
        self._handles = tuple(handles.values())
        table = client.pipeline.table
        #: name -> writable view; "json" inputs are their UTF-8 bytes.
        self.inputs = {name: table.view(handle, writable=True) for name, handle in handles.items()}

    def submit(self, *, flush: bool = True) -> LocalFuture:
        """Hand the request in. It is computed when the client is pumped."""
        return self._client.take(self._slot, self._handles)

    def discard(self) -> None:
        """Keep the slot for another draft."""
        self._client.pipeline.keep(self._slot)


class LocalClient:
    """The one client of a pipeline in this process."""

    def __init__(self, pipeline: LocalPipeline) -> None:
        self.pipeline = pipeline
        #: What runs.
        self.plan = pipeline.plan
        self._waiting: LocalFuture | None = None
        self._next_tag = 1

    def draft_nowait(self, **shapes: tuple[int, ...]) -> LocalDraft | None:
        """A slot to write a request's inputs into, by the shape of each; None while a request waits to be computed.

        Raises:
            InvalidRequest: a shape does not fit the pipeline's inputs.
        """
        if self._waiting is not None:
            return None
        specs = {spec.name: spec for spec in self.plan.inputs}
        if shapes.keys() != specs.keys():
            raise InvalidRequest(f"expected the inputs {', '.join(specs)}; found {', '.join(shapes) or 'none'}")
        places: dict[str, tuple[int, str, tuple[int, ...]]] = {}
        end = 0
        for name, spec in specs.items():
            try:
                shape = extents_of(shapes[name])
            except SpecMismatch as error:
                raise InvalidRequest(f"input {name!r}: {error}") from None
            if (why := spec.misfit(spec.dtype, shape)) is not None:
                raise InvalidRequest(f"input {name!r}: {why}")
            places[name] = end, spec.dtype, shape
            nbytes = itemsize(spec.dtype)
            for extent in shape:
                nbytes *= extent
            end += -(-nbytes // ALIGNMENT) * ALIGNMENT
        slot = self.pipeline.slot_for(end)
        if slot is None:
            raise InvalidRequest(f"the inputs take {end} bytes, more than the largest slot has")
        return LocalDraft(self, slot, {name: TensorHandle(*slot, *place) for name, place in places.items()})

    def take(self, slot: SlotRef, handles: tuple[TensorHandle, ...]) -> LocalFuture:
        """A draft that is ready."""
        self._waiting = LocalFuture(self.pipeline, Submission(self._next_tag, slot, handles, 0, 0))
        self._next_tag += 1
        return self._waiting

    def flush(self) -> None:
        """Nothing is kept back."""

    def pump(self, timeout_s: float = 0.0) -> int:
        """Compute the request that waits, if there is one; how many answers came."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return 0
        waiting.compute()
        return 1

    def reconnect(self, timeout_s: float = 60.0) -> None:
        """There is nothing that could be lost."""

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values."""
        return self.pipeline.status()


def _value(table: SegmentTable, handle: TensorHandle) -> Any:
    array: Array = table.view(handle)
    return json.loads(array.tobytes()) if handle.dtype == JSON else array
