"""Feed: sends one request a file, and hands out the answers in the order of the files.

Single-threaded: it reads a file straight into its slot, sends the handle, and takes in answers while
it waits for the next slot. What is under way is bounded by the slots, what is kept back for the sake
of order by `_MAX_AHEAD`.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.client.client import Client
from pipeline.client.future import Future
from pipeline.errors import InvalidRequest, RequestError, Unavailable
from pipeline.feeding.record import Record, plain
from pipeline.feeding.sources import load_arrays, takes_bytes

__all__ = ["Feed"]

_MAX_AHEAD = 4096


class Feed:
    """Runs `files` through a pipeline.

    Args:
        client: connected.
        files: paths, one request each; a record names its file so.
        deadline_ms: of each request, from its submission.
    """

    def __init__(self, client: Client, files: Sequence[str], deadline_ms: float | None = None) -> None:
        self._client = client
        self._files = files
        self._deadline_ms = deadline_ms
        self._bytes_of = client.plan.inputs[0] if takes_bytes(client.plan.inputs) else None
        self._under_way: deque[tuple[str, Future | Record]] = deque()
        self._stopped = False
        #: Files that have been sent, or have failed before they could be.
        self.taken = 0

    def stop(self) -> None:
        """Send nothing more; what is under way is finished."""
        self._stopped = True

    def run(self, on_progress: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """The records, in the order of the files. `on_progress` is called while nothing comes, too.

        Raises:
            Unavailable: the pipeline has died.
        """
        while self._under_way or (self.taken < len(self._files) and not self._stopped):
            self._send()
            first = self._under_way[0][1] if self._under_way else None
            # Nothing to hand out yet: wait for an answer, or for the first slot.
            if first is None or (isinstance(first, Future) and not first.done()):
                self._client.pump(0.1)
                on_progress()
            while self._under_way:
                path, outcome = self._under_way[0]
                if isinstance(outcome, Future):
                    if not outcome.done():
                        break
                    record = self._record(path, outcome)
                else:
                    record = outcome
                self._under_way.popleft()
                yield record

    def _send(self) -> None:
        """Send as many as there are slots for."""
        while self.taken < len(self._files) and not self._stopped and len(self._under_way) < _MAX_AHEAD:
            path = self._files[self.taken]
            future: Future | Record | None
            try:
                future = self._submit(path)
            except Unavailable:
                raise
            except RequestError as error:
                future = Record(path, (type(error).__name__, str(error)))
            except OSError as error:
                future = Record(path, ("InvalidRequest", f"cannot be read: {error.strerror or error}"))
            if future is None:
                break
            self._under_way.append((path, future))
            self.taken += 1
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
            return draft.submit(deadline_ms=self._deadline_ms, flush=False)
        # O_NONBLOCK: a FIFO among the files must not hang the run.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidRequest("expected a file" + (", found a folder" if stat.S_ISDIR(status.st_mode) else ""))
            size, most = status.st_size, spec.max[str(spec.shape[0])]
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
        return draft.submit(deadline_ms=self._deadline_ms, flush=False)

    def _record(self, path: str, future: Future) -> Record:
        latency_ms = (future.answered_ns - future.submitted_ns) / 1e6
        if (error := future.error()) is not None:
            code = future.answer.code if future.answer is not None else type(error).__name__
            return Record(path, (code, str(error)), latency_ms=latency_ms)
        with future.get() as result:
            return Record(
                path,
                outputs={name: plain(value) for name, value in result.items()},
                latency_ms=latency_ms,
                stages=result.stages,
            )


def _read_into(fd: int, view: NDArray[np.uint8]) -> int:
    """Read a file straight into its slot; how many bytes it had."""
    memory = view.data
    filled = 0
    while filled < len(memory) and (count := os.readv(fd, [memory[filled:]])):
        filled += count
    return filled
