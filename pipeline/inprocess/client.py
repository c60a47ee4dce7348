"""LocalClient: what `pipeline.feeding` needs of a client, over a pipeline in this process.

One request at a time: a second slot is there when the first request has been answered. So stages see the files in their
order, and what a stage prints comes before the line of its file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.client.answering import traces_of
from pipeline.client.future import Future, Pending
from pipeline.client.inputs import given_of, lay_out
from pipeline.client.leases import Leases
from pipeline.client.limits import STATUS_S
from pipeline.client.outputs import decoded_output
from pipeline.errors import ClientMisuse, InvalidRequest, NotInTime
from pipeline.inprocess.pipeline import CLIENT, LocalPipeline
from pipeline.wire.labels import short_name
from pipeline.wire.messages import Answer, SlotRef, Submission
from shm.handle import ENCODED, TensorHandle
from shm.view import SegmentTable

__all__ = ["LocalClient"]


class LocalResult(Mapping[str, Any]):
    """The outputs of one request, by name; valid within its `with` block."""

    def __init__(self, pipeline: LocalPipeline, answer: Answer) -> None:
        self._pipeline = pipeline
        interface = pipeline.interface
        named = zip(interface.outputs, answer.outputs)
        handles = {tensor.name: handle for tensor, handle in named if isinstance(handle, TensorHandle)}
        self._values = {name: _value(name, pipeline.table, handle) for name, handle in handles.items()}
        self._slots = list({SlotRef(*handle[:3]) for handle in handles.values()})
        #: As of `pipeline.client.result.Result`.
        self.stages = traces_of(answer.trace, interface.stages)

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
        # It has no client that waits for it, as a `Future` has: it is computed when it is asked for.
        Pending.__init__(
            self, submission.tag, Leases(CLIENT), pipeline.table, pipeline.interface, time.monotonic_ns()
        )
        self.submission = submission
        self._pipeline = pipeline

    def compute(self) -> None:
        """Compute it now."""
        self.answer = self._pipeline.run(self.submission)
        self.answered_ns = time.monotonic_ns()

    def get(self, timeout_s: float | None = None) -> LocalResult:  # type: ignore[override]
        """The result of a request that is done.

        Raises:
            RequestError: the request has no answer.
            ClientMisuse: the answer has come in several parts.
        """
        if not self.done():
            self.compute()
        self._raise()
        assert self.answer is not None
        if self.answer.part:
            raise ClientMisuse(
                f"the answer to request {self.request} has come in {self.answer.part} parts, which are no single "
                f"result: use a pipeline of several processes, and for part in future.results()"
            )
        return LocalResult(self._pipeline, self.answer)


class LocalDraft:
    """A slot that is being filled; see `pipeline.client.draft.Draft`."""

    def __init__(self, client: LocalClient, slot: SlotRef, handles: Mapping[str, TensorHandle]) -> None:
        self._client = client
        self._slot = slot
        self._handles = tuple(handles.values())
        table = client.pipeline.table
        #: name -> writable view; "json" inputs are their UTF-8 bytes, "bytes" inputs their encoding.
        self.inputs = {name: table.view(handle, writable=True) for name, handle in handles.items()}

    def submit(self, *, flush: bool = True, name: str = "") -> LocalFuture:
        """Hand the request in. It is computed when the client is pumped."""
        return self._client.take(self._slot, self._handles, name)

    def discard(self) -> None:
        """Keep the slot for another draft."""
        self._client.pipeline.keep(self._slot)


class LocalClient:
    """The one client of a pipeline in this process."""

    def __init__(self, pipeline: LocalPipeline) -> None:
        self.pipeline = pipeline
        #: What runs.
        self.interface = pipeline.interface
        self._specs = pipeline.interface.specs
        self._waiting: LocalFuture | None = None
        self._next_tag = 1

    def draft_nowait(self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, **shapes: Any) -> LocalDraft | None:
        """A slot to write a request's inputs into, by the shape of each; None while a request waits to be computed.

        Raises:
            InvalidRequest: a shape does not fit the pipeline's inputs.
        """
        if self._waiting is not None:
            return None
        places, nbytes, _ = lay_out(self._specs, given_of(self._specs, inputs, shapes))
        slot = self.pipeline.slot_for(nbytes)
        if slot is None:
            raise InvalidRequest(f"the inputs take {nbytes} bytes, more than the largest slot has")
        handles = {name: TensorHandle(*slot, *where) for name, where in zip(self._specs, places)}
        return LocalDraft(self, slot, handles)

    def draft(
        self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, *, timeout_s: float, **shapes: Any
    ) -> LocalDraft:
        """As `draft_nowait`; raises NotInTime while a request waits to be computed: waiting would bring no slot."""
        if (draft := self.draft_nowait(inputs, **shapes)) is None:
            raise NotInTime("a request waits to be computed: pump first")
        return draft

    def take(self, slot: SlotRef, handles: tuple[TensorHandle, ...], name: str) -> LocalFuture:
        """A draft that is ready."""
        self._waiting = LocalFuture(self.pipeline, Submission(self._next_tag, slot, handles, 0, 0, short_name(name)))
        self._next_tag += 1
        return self._waiting

    def flush(self) -> None:
        """Does nothing: no message is kept back."""

    def pump(self, timeout_s: float = 0.0) -> int:
        """Compute the request that waits, if there is one; how many answers came."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return 0
        waiting.compute()
        return 1

    def reconnect(self, timeout_s: float = 60.0) -> None:
        """Does nothing: no connection can be lost."""

    def status(self, timeout_s: float = STATUS_S) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values."""
        return self.pipeline.status()


def _value(name: str, table: SegmentTable, handle: TensorHandle) -> Any:
    return decoded_output(name, handle, table) if handle.dtype in ENCODED else table.view(handle)
