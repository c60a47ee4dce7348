"""The models that Triton's own tests use, as stages of ours."""

from __future__ import annotations

import time

import numpy as np

from stages.spec import TensorSpec


def identity(INPUT0):  # type: ignore[no-untyped-def]  # noqa: N803 (the input's name)
    return INPUT0


def sums(INPUT0, INPUT1):  # type: ignore[no-untyped-def]  # noqa: N803
    return {"OUTPUT0": INPUT0 + INPUT1, "OUTPUT1": INPUT0 - INPUT1}


class Repeat:
    """Each element of IN as a part of its own, after as many milliseconds as DELAY says."""

    inputs = (
        TensorSpec("IN", "int32", ("n",), {"n": 64}),
        TensorSpec("DELAY", "uint32", ("m",), {"m": 64}),
        TensorSpec("WAIT", "uint32", (1,)),
    )
    #: The size is for all parts together, each of which takes 64 bytes at least: so there are free dimensions.
    outputs = (TensorSpec("OUT", "int32", ("k",), {"k": 1024}), TensorSpec("IDX", "uint32", ("k",), {"k": 1024}))

    def process(self, batch):  # type: ignore[no-untyped-def]
        values, delays = batch.rows("IN"), batch.rows("DELAY")
        for number in range(max(map(len, values))):
            time.sleep(max(float(d[number]) if number < len(d) else 0.0 for d in delays) / 1000)
            there = [number < len(v) for v in values]
            yield {
                "OUT": [np.array([v[number]], np.int32) if t else None for v, t in zip(values, there)],
                "IDX": [np.array([number], np.uint32) if t else None for t in there],
            }
