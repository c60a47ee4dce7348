"""Stages of fixed shapes, for tests of requests of several rows. Tests copy it beside a config."""

from __future__ import annotations

import os

import numpy as np

from stages.errors import BadInput
from stages.spec import TensorSpec


class Add:
    """y = x + 1, and how many rows the batch had. A row that begins with -1 is bad, and one that begins with -3 ends the
    process, if `deadly`; one that begins with -2 raises."""

    inputs = (TensorSpec("x", "float32", (256,)),)
    outputs = (TensorSpec("y", "float32", (256,)), TensorSpec("size", "int64", ()))

    def __init__(self, deadly: bool = False) -> None:
        self.deadly = deadly

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, x in enumerate(batch.rows("x")):
            if x[0] == -1:
                batch.fail(row, BadInput("it is negative"))
            if x[0] == -2:
                raise ValueError("it is odd")
            if x[0] == -3 and self.deadly:
                os._exit(9)
            batch.out(row, "size")[...] = len(batch)
        batch.stack_out("y")[...] = batch.stack("x") + 1


class Double:
    """z = 2 y."""

    inputs = (TensorSpec("y", "float32", (256,)),)
    outputs = (TensorSpec("z", "float32", (256,)),)

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        np.multiply(batch.stack("y"), 2, out=batch.stack_out("z"))
