"""Stages of the soak: each does one step of the computation, and the deed that a request tells it."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from bench.chaos.requests import DEEDS, HEAD, LONGEST
from shm.layout import ceil_div
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["Cut", "Join", "Step"]

_NAMES = tuple(DEEDS)

PART = 8
"""How many numbers a part has."""

_PARTS = ceil_div(LONGEST - HEAD, PART)

_VALUES = TensorSpec("values", "int64", ("n",), {"n": LONGEST})


class Step:
    """values -> times * values + plus, without the head of the request.

    Args:
        place: the number of this stage in the pipeline.
        times, plus: the factor and the summand.
        ms: milliseconds that one batch takes, beside the computation.
    """

    inputs = (_VALUES,)
    outputs = (_VALUES,)
    ragged = True

    def __init__(self, place: int, times: int = 1, plus: int = 0, ms: float = 1.0) -> None:
        self._place = place
        self._times = times
        self._plus = plus
        self._seconds = ms / 1000

    def process(self, batch: Batch) -> None:
        """One batch."""
        for row, values in enumerate(batch.rows("values")):
            if values[2] == self._place:
                try:
                    _do(_NAMES[values[1]])
                except BadInput as error:
                    batch.fail(row, error)
                    continue
            out = batch.out(row, "values", values.shape)
            out[:HEAD] = values[:HEAD]
            out[HEAD:] = self._times * values[HEAD:] + self._plus
        time.sleep(self._seconds)


class Cut:
    """values -> parts of at most PART numbers, each under the head of the request; only the first does the deed."""

    inputs = (_VALUES,)
    outputs = (TensorSpec("part", "int64", ("n",), {"n": HEAD + PART}, many=_PARTS),)
    ragged = True

    def process(self, batch: Batch) -> None:
        """One batch."""
        for row, values in enumerate(batch.rows("values")):
            body = values[HEAD:]
            cuts = [body[at : at + PART] for at in range(0, len(body), PART)]
            for number, (out, cut) in enumerate(
                zip(batch.out_many(row, "part", [(HEAD + len(cut),) for cut in cuts]), cuts)
            ):
                out[:HEAD] = values[:HEAD]
                out[1] = 0 if number else values[1]
                out[HEAD:] = cut


class Join:
    """parts -> values, under the head of the first."""

    inputs = (TensorSpec("parts", "int64", ("n",), {"n": LONGEST}, many=_PARTS),)
    outputs = (_VALUES,)
    ragged = True

    def process(self, batch: Batch) -> None:
        """One batch."""
        for row, parts in enumerate(batch.rows("parts")):
            out = batch.out(row, "values", (HEAD + sum(len(part) - HEAD for part in parts),))
            out[:HEAD] = parts[0][:HEAD]
            at = HEAD
            for part in parts:
                out[at : at + len(part) - HEAD] = part[HEAD:]
                at += len(part) - HEAD


def _do(deed: str) -> None:
    if deed == "segfault":
        ctypes.string_at(0)
    elif deed == "abort":
        os.abort()
    elif deed == "exit":
        os._exit(5)
    elif deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "hang":
        # A C call that keeps the interpreter's lock: no thread of this process runs any more.
        ctypes.PyDLL(None).sleep(3600)
    elif deed == "bad":
        raise BadInput("refused on purpose")
