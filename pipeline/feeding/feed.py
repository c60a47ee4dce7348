"""Feed: sends the requests of a run, and hands out the answers in their order.

Single-threaded: it reads a file straight into its slot, sends the handle, and takes in answers while
it waits for the next slot. The slots bound what is under way; `_MAX_AHEAD` and `_MAX_KEPT_BYTES` bound
what is held back for the sake of order.

If one request fails, its record says why, and the next request follows.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.client import Client
from pipeline.client.draft import Draft
from pipeline.client.future import Future
from pipeline.client.inputs import fill_in, stored_shapes
from pipeline.errors import ClientMisuse, InvalidRequest, NotInTime, RequestError, Unavailable
from pipeline.feeding.output import NoOutput, Output, OutputBroken
from pipeline.feeding.record import Record, shown
from pipeline.feeding.sources import Intake, Source, Sources, open_file
from pipeline.feeding.values import headline_of

__all__ = ["Feed"]

_MAX_AHEAD = 4096
_MAX_KEPT_BYTES = 256 << 20

_MAX_TRIES = 5

_TURN_S = 0.1


class _Entry:
    """One request that is under way."""

    __slots__ = ("arrays", "number", "outcome", "source", "tries")

    def __init__(self, source: Source, number: int) -> None:
        self.source = source
        #: Its place among the sources, from 1 on.
        self.number = number
        self.outcome: Future | Record | None = None
        self.tries = 0
        #: Its inputs, from the time when they were read until they are in the slot.
        self.arrays: dict[str, NDArray[Any]] | None = None


class Feed:
    """Runs `sources` through a pipeline.

    If the scheduler dies, requests are sent again: stages are functions of their inputs, so it does no
    harm to compute one twice.

    Args:
        client: connected.
        sources: of this pipeline's inputs, one request each.
        output: receives the outputs of each answer.
    """

    def __init__(self, client: Client, sources: Sources, intake: Intake, output: Output | None = None) -> None:
        self._client = client
        self._sources = sources
        self._intake = intake
        self._output: Output = NoOutput() if output is None else output
        self._under_way: deque[_Entry] = deque()
        self._to_send: deque[_Entry] = deque()
        #: Requests that were sent and are not answered, in the order in which they were sent.
        self._waiting: list[_Entry] = []
        #: Bytes of the records that wait for earlier ones.
        self._kept = 0
        self._stopped = False
        #: Whether nothing is under way, and `on_progress` was told so.
        self._idle = False

    def stop(self) -> None:
        """Start no more requests; those under way are finished."""
        self._stopped = True

    def run(self, on_progress: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """The records, in the order of the sources. `on_progress` is called even while no answer comes.

        Raises:
            Unavailable: the pipeline has stopped for good.
            OutputBroken: the output cannot be written any more.
        """
        while self._under_way or not (self._stopped or self._sources.exhausted):
            try:
                self._send()
                outcome = self._under_way[0].outcome if self._under_way else None
                # There is nothing to hand out yet: wait for an answer, or for the first slot.
                if outcome is None or (isinstance(outcome, Future) and not outcome.done()):
                    if self._under_way:
                        self._client.pump(0.1)
                    self._idle = not self._under_way
                    on_progress()
            except Unavailable:
                self._client.reconnect()
            yield from self._finished()

    def _finished(self) -> Iterator[Record]:
        self._take_in()
        while self._under_way and isinstance(record := self._under_way[0].outcome, Record):
            self._under_way.popleft()
            self._kept -= len(record.outputs)
            yield record

    def _take_in(self) -> None:
        """Turn every answer into its record, even if earlier ones are missing.

        An answer that waits for earlier ones would keep its slot, and an earlier request may need that very slot.
        """
        waiting = []
        for entry in self._waiting:
            future = entry.outcome
            assert isinstance(future, Future)
            if not future.done():
                waiting.append(entry)
            elif isinstance(future.error(), Unavailable) and future.answer is None and entry.tries < _MAX_TRIES:
                entry.outcome = None
                self._to_send.append(entry)
            else:
                entry.outcome = record = self._record(entry, future)
                self._kept += len(record.outputs)
        self._waiting = waiting

    def _send(self) -> None:
        """Send as many requests as there are slots; those that must be sent again come first."""
        while True:
            if not self._to_send:
                if self._stopped or len(self._under_way) >= _MAX_AHEAD or self._kept > _MAX_KEPT_BYTES:
                    break
                # Wait for the next source only if all answers are handed out and shown.
                source = self._sources.take(0.1 if self._idle else 0.0)
                self._idle = False
                if source is None:
                    break
                entry = _Entry(source, self._sources.taken)
                self._under_way.append(entry)
                self._to_send.append(entry)
            entry = self._to_send[0]
            entry.outcome = self._try(entry)
            if entry.outcome is None:
                break
            if isinstance(entry.outcome, Future):
                self._waiting.append(entry)
            entry.tries += 1
            self._to_send.popleft()
        # One message carries all of them.
        self._client.flush()

    def _try(self, entry: _Entry) -> Future | Record | None:
        """Send one request, and return what came of it: None if there is no slot yet.

        Raises:
            Unavailable: the pipeline has died; the request is not lost.
        """
        name = entry.source.name
        try:
            return self._submit(entry)
        except Unavailable:
            raise
        except RequestError as error:
            return Record(name, (error.code, shown(str(error))))
        except OSError as error:
            return Record(name, (InvalidRequest.code, f"cannot be read: {error.strerror or error}"))
        except Exception as error:  # of one file: no memory for it, or a library that fails on it
            return Record(name, (InvalidRequest.code, f"cannot be sent: {_described(error)}"))

    def _submit(self, entry: _Entry) -> Future | None:
        source = entry.source
        if source.failure:
            raise InvalidRequest(source.failure)
        spec = self._intake.bytes_of
        if spec is None or not source.path:
            if entry.arrays is None:
                # Kept while it waits for a slot: reading it again each time would be most of the work.
                entry.arrays = self._intake.load(source)
            draft = self._draft(stored_shapes(entry.arrays))
            if draft is None:
                return None
            fill_in(draft.inputs, entry.arrays)
            entry.arrays = None
            return draft.submit(flush=False, name=source.name)
        fd, size = open_file(source.path)
        try:
            most = self._intake.most_bytes
            if not size:
                # Files of /proc and the like have the size 0, whatever they contain.
                with open(fd, "rb", closefd=False) as stream:
                    source.data = stream.read(most + 1)
                size = len(source.data)
            if size > most:
                raise InvalidRequest(
                    f"the file has {size} bytes, input {spec.name!r} takes at most {most}; "
                    f"raise its max in {self._intake.config}"
                )
            draft = self._draft({spec.name: (size,)})
            if draft is None:
                return None
            try:
                if source.data:
                    draft.inputs[spec.name][...] = np.frombuffer(source.data, np.uint8)
                    filled = size
                else:
                    filled = _read_into(fd, draft.inputs[spec.name])
            except BaseException:
                draft.discard()
                raise
        finally:
            os.close(fd)
        if filled < size:
            draft.discard()
            raise InvalidRequest(f"the file became shorter while it was read: {filled} of {size} bytes")
        return draft.submit(flush=False, name=source.name)

    def _draft(self, shapes: Mapping[str, tuple[int, ...]]) -> Draft | None:
        """A slot for inputs of these shapes, or None if there is none yet."""
        if self._waiting:
            return self._client.draft_nowait(shapes)
        # No answer is under way that could free a slot: wait in the scheduler's queue, as other clients do.
        try:
            return self._client.draft(shapes, timeout_s=_TURN_S)
        except NotInTime:
            return None

    def _record(self, entry: _Entry, future: Future) -> Record:
        name = entry.source.name
        latency_ms = (future.answered_ns - future.submitted_ns) / 1e6
        if (failure := future.error()) is not None:
            return Record(
                name,
                (failure.code, str(failure)),
                latency_ms=latency_ms,
                traceback=failure.traceback,
                request=future.request,
            )
        try:
            with future.get() as result:
                outputs: Mapping[str, Any] = result
                text, lost = self._output.take(entry.number, name, outputs)
                return Record(
                    name,
                    headline=headline_of(outputs),
                    outputs=text,
                    lost=lost,
                    latency_ms=latency_ms,
                    stages=result.stages,
                    request=future.request,
                )
        except OutputBroken:
            raise
        except ClientMisuse:
            why = (
                "the answer has come in parts, but here each input has one answer; serve the pipeline with "
                "`pipeline run CONFIG --serve`, and read the parts in a program: for part in future.results()"
            )
            return Record(name, ("OutputError", why), latency_ms=latency_ms, request=future.request)
        except Exception as error:  # this answer cannot be shown or written
            why = f"cannot be written: {_described(error)}"
            return Record(name, ("OutputError", why), latency_ms=latency_ms, request=future.request)


def _described(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _read_into(fd: int, view: NDArray[np.uint8]) -> int:
    """Read a file straight into its slot; how many bytes it had."""
    memory = view.data
    filled = 0
    while filled < len(memory) and (count := os.readv(fd, [memory[filled:]])):
        filled += count
    return filled
