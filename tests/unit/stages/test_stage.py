from __future__ import annotations

from typing import Any

import numpy as np

from stages.spec import TensorSpec
from stages.stage import Batch, Stage
from stages.testing import run


class Invert:
    inputs = (TensorSpec("image", "uint8", (4, 4, 3)),)
    outputs = (TensorSpec("image", "uint8", (4, 4, 3)),)

    def process(self, batch: Batch) -> None:
        np.subtract(255, batch.stack("image"), out=batch.stack_out("image"))


class Upper:
    inputs = (TensorSpec("names", "bytes", ("n",), {"n": 4, "bytes": 64}),)
    outputs = (TensorSpec("upper", "bytes", ("n",), {"n": 4, "bytes": 64}),)

    def process(self, batch: Batch) -> dict[str, Any]:
        return {"upper": [np.array([name.upper() for name in row], object) for row in batch.rows("names")]}


def test_the_stage_of_the_docstring_is_a_stage_and_works() -> None:
    stage = Invert()
    assert isinstance(stage, Stage)
    pictures = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    done = run(stage, image=pictures)
    assert (done.result(1, "image") == 255 - pictures[1]).all()
    assert done.bytes_copied == 0


def test_the_stage_of_the_docstring_that_takes_bytes_works() -> None:
    stage = Upper()
    assert isinstance(stage, Stage)
    done = run(stage, names=[["a", b"b\0"], []])
    assert done.result(0, "upper").tolist() == [b"A", b"B\0"]
    assert done.result(1, "upper").shape == (0,)
