"""A user's own file: stages that work, and stages that die in every way. Tests copy it beside their config."""

from __future__ import annotations

import ctypes
import os
import sys
import time

from stages.errors import BadInput
from stages.spec import TensorSpec


def die(how: str) -> None:
    """End this process, or fail, in the way of that name."""
    if how == "raise":
        raise RuntimeError("broken on purpose")
    if how == "bad_input":
        raise BadInput("refused on purpose")
    if how == "sys.exit":
        sys.exit(7)
    if how == "os._exit":
        os._exit(9)
    if how == "segfault":
        ctypes.string_at(0)


class Work:
    """Bytes in, the same bytes out, after `seconds` for each of them; a second more for b"slow"."""

    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)
    outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)

    def __init__(self, seconds: float = 0.0, dies_in: str = "", how: str = "raise") -> None:
        self.seconds = seconds
        self.dies_in = dies_in
        self.how = how
        self._die("init")

    def setup(self, context: object) -> None:
        self._die("setup")

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, data in enumerate(batch.rows("data")):
            time.sleep(self.seconds)
            if data.tobytes() == b"slow":
                time.sleep(1.0)
            if data.tobytes() == b"poison":
                die(self.how)
            batch.out(row, "data", data.shape)[...] = data

    def _die(self, where: str) -> None:
        if self.dies_in == where:
            die(self.how)


class Count:
    """The number of bytes, after `seconds`."""

    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)
    outputs = (TensorSpec("count", "int64", (1,)),)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def process(self, batch) -> dict[str, list[list[int]]]:  # type: ignore[no-untyped-def]
        rows = batch.rows("data")
        time.sleep(self.seconds * len(rows))
        return {"count": [[len(row)] for row in rows]}


def louder(data, by=1):  # type: ignore[no-untyped-def]
    """A plain function: each byte plus `by`."""
    return data + by
