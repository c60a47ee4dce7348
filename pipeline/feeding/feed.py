"""Feed: sends one request a file, and hands out the answers in the order of the files.

Single-threaded: it reads a file straight into its slot, sends the handle, and takes in answers while
it waits for the next slot. What is under way is bounded by the slots, what is kept back for the sake
of order by `_MAX_AHEAD`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.client.client import Client
from pipeline.client.future import Future
from pipeline.errors import InvalidRequest, RequestError, Unavailable
from pipeline.feeding.record import Record, plain
from pipeline.feeding.sources import load_arrays, open_file, takes_bytes

__all__ = ["Feed"]

_MAX_AHEAD = 4096

_MAX_TRIES = 5


class _Entry:
    """One file on its way."""

    __slots__ = ("outcome", "path", "tries")

    def __init__(self, path: str) -> None:
        self.path = path
        self.outcome: Future | Record | None = None
        self.tries = 0


class Feed:
    """Runs `files` through a pipeline.

    A request whose scheduler died is sent again: stages are functions of their inputs, so nothing
    happens twice that matters.

    Args:
        client: connected.
        files: paths, one request each; a record names its file so.
    """

    def __init__(self, client: Client, files: Sequence[str]) -> None:
        self._client = client
        self._files = files
        self._bytes_of = client.plan.inputs[0] if takes_bytes(client.plan.inputs) else None
        self._under_way: deque[_Entry] = deque()
        self._to_send: deque[_Entry] = deque()
        #: Those that have been sent and are not answered, in the order in which they were sent.
        self._waiting: list[_Entry] = []
        self._stopped = False
        #: Files that have been taken up.
        self.taken = 0

    def stop(self) -> None:
        """Take up no more files; what is under way is finished."""
        self._stopped = True

    def run(self, on_progress: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """The records, in the order of the files. `on_progress` is called while nothing comes, too.

        Raises:
            Unavailable: the pipeline has stopped for good.
        """
        while self._under_way or (self.taken < len(self._files) and not self._stopped):
            try:
                self._send()
                outcome = self._under_way[0].outcome if self._under_way else None
                # Nothing to hand out yet: wait for an answer, or for the first slot.
                if outcome is None or (isinstance(outcome, Future) and not outcome.done()):
                    self._client.pump(0.1)
                    on_progress()
            except Unavailable:
                self._client.reconnect()
            yield from self._finished()

    def _finished(self) -> Iterator[Record]:
        self._take_in()
        while self._under_way and isinstance(record := self._under_way[0].outcome, Record):
            self._under_way.popleft()
            yield record

    def _take_in(self) -> None:
        """Turn every answer into its record, whatever its turn.

        An answer that waits for its turn keeps its slot, and the file whose turn it is may need just that one.
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
                entry.outcome = self._record(entry.path, future)
        self._waiting = waiting

    def _send(self) -> None:
        """Send as many as there are slots for, first those that are to be sent again."""
        while True:
            if not self._to_send:
                if self._stopped or self.taken == len(self._files) or len(self._under_way) >= _MAX_AHEAD:
                    break
                entry = _Entry(self._files[self.taken])
                self.taken += 1
                self._under_way.append(entry)
                self._to_send.append(entry)
            entry = self._to_send[0]
            try:
                entry.outcome = self._submit(entry.path)
            except Unavailable:
                raise
            except RequestError as error:
                entry.outcome = Record(entry.path, (type(error).__name__, str(error)))
            except OSError as error:
                entry.outcome = Record(
                    entry.path, ("InvalidRequest", f"cannot be read: {error.strerror or error}")
                )
            if entry.outcome is None:
                break
            if isinstance(entry.outcome, Future):
                self._waiting.append(entry)
            entry.tries += 1
            self._to_send.popleft()
        # One message for all of them.
        self._client.flush()

    def _submit(self, path: str) -> Future | None:
        spec = self._bytes_of
        if spec is None:
            arrays = load_arrays(Path(path), self._client.plan.inputs)
            draft = self._client.draft_nowait(**{name: array.shape for name, array in arrays.items()})
            if draft is None:
                return None
            for name, array in arrays.items():
                draft.inputs[name][...] = array
            return draft.submit(flush=False, name=path)
        fd, size = open_file(Path(path))
        try:
            most = spec.max[str(spec.shape[0])]
            if size > most:
                raise InvalidRequest(
                    f"the file has {size} bytes, input {spec.name!r} takes at most {most}; "
                    f"raise its max in {Path(self._client.plan.config_path).name}"
                )
            draft = self._client.draft_nowait(**{spec.name: (size,)})
            if draft is None:
                return None
            filled = _read_into(fd, draft.inputs[spec.name])
        finally:
            os.close(fd)
        if filled < size:
            draft.discard()
            raise InvalidRequest(f"the file became shorter while it was read: {filled} of {size} bytes")
        return draft.submit(flush=False, name=path)

    def _record(self, path: str, future: Future) -> Record:
        latency_ms = (future.answered_ns - future.submitted_ns) / 1e6
        if (error := future.error()) is not None:
            code = future.answer.code if future.answer is not None else type(error).__name__
            return Record(
                path, (code, str(error)), latency_ms=latency_ms, traceback=error.traceback, request=future.request
            )
        with future.get() as result:
            return Record(
                path,
                outputs={name: plain(value) for name, value in result.items()},
                latency_ms=latency_ms,
                stages=result.stages,
                request=future.request,
            )


def _read_into(fd: int, view: NDArray[np.uint8]) -> int:
    """Read a file straight into its slot; how many bytes it had."""
    memory = view.data
    filled = 0
    while filled < len(memory) and (count := os.readv(fd, [memory[filled:]])):
        filled += count
    return filled
