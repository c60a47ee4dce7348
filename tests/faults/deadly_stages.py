"""A user's own file: a stage that works, and that ends or stops its process if a request says so. Tests copy it beside a config."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from stages.errors import BadInput
from stages.spec import TensorSpec


def do(deed: bytes) -> None:
    """End or stop this process in the way of that name."""
    if deed == b"segfault":
        print("about to read address 0", file=sys.stderr, flush=True)
        ctypes.string_at(0)
    elif deed == b"abort":
        os.abort()
    elif deed == b"exit":
        os._exit(9)
    elif deed == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == b"close":
        # The runtime's own, too: it dies as soon as it uses one.
        os.closerange(3, 4096)
    elif deed == b"sleep":
        time.sleep(3600)
    elif deed == b"hold":
        # A C call that keeps the interpreter's lock: no other thread of this process runs any more.
        ctypes.PyDLL(None).sleep(3600)
    elif deed == b"bad":
        raise BadInput("refused on purpose")


class Work:
    """Bytes in, the same bytes out.

    Args:
        seconds: how long each batch takes.
        deadly: whether this stage obeys the requests that say so.
        journal: a file to which it writes each row that it computes, one a line.
        starts: a file to which each start of a worker is written; once it has `good_starts`, setup fails.
        setup_s: how long setup takes.
        gate: a file without which a request `last` is not answered: a run over files with that one at their end is
            not over before the test has done what it does to it.
    """

    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 1024}),)
    outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 1024}),)
    ragged = True

    def __init__(
        self,
        seconds: float = 0.0,
        deadly: bool = False,
        journal: str = "",
        starts: str = "",
        good_starts: int = 1,
        setup_s: float = 0.0,
        gate: str = "",
    ) -> None:
        self.gate = gate
        self.seconds = seconds
        self.deadly = deadly
        self.journal = journal
        self.starts = starts
        self.good_starts = good_starts
        self.setup_s = setup_s

    def setup(self, context: object) -> None:
        time.sleep(self.setup_s)
        if self.starts:
            with Path(self.starts).open("a+") as file:
                # Workers that start at once would all find it empty.
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                if len(file.readlines()) >= self.good_starts:
                    raise RuntimeError("the model file is gone")
                file.write("started\n")
                file.flush()

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, data in enumerate(batch.rows("data")):
            if self.journal:
                with Path(self.journal).open("ab") as file:
                    file.write(data.tobytes() + b"\n")
            if self.deadly:
                try:
                    do(data.tobytes())
                except BadInput as error:
                    batch.fail(row, error)
                    continue
            while self.gate and data.tobytes() == b"last" and not os.path.exists(self.gate):
                time.sleep(0.01)
            batch.out(row, "data", data.shape)[...] = data
        time.sleep(self.seconds)


class Large:
    """Gives the last byte of a large request."""

    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 2 * 1024 * 1024}),)
    outputs = (TensorSpec("last", "uint8", ()),)

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, data in enumerate(batch.rows("data")):
            batch.out(row, "last", ())[...] = data[-1]
