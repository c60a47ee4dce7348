"""A stage that takes its time without a core, so that two workers of it are twice as fast on any machine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from stages.spec import TensorSpec


class Slow:
    """Passes numbers on after some milliseconds; a third worker of it does not start."""

    inputs = (TensorSpec("x", "float32", (4,)),)
    outputs = (TensorSpec("y", "float32", (4,)),)

    def __init__(self, milliseconds: float = 10.0) -> None:
        self._seconds = milliseconds / 1000

    def setup(self, context: Any) -> None:
        if context.replica == 2:
            raise RuntimeError("no third worker of this")

    def process(self, batch: Any) -> None:
        for row, x in enumerate(batch.rows("x")):
            if not x.any():
                raise ValueError("only zeros")
            time.sleep(self._seconds)
            np.negative(x, out=batch.out(row, "y"))
