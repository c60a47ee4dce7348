"""Stages of the pipeline that is asked in all ways: of every kind of tensor, and of every kind of mistake."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from stages.spec import TensorSpec
from stages.stage import Batch

LARGE = (128, 256)  # 128 KiB of float32: large enough for shared memory


class Things:
    """Gives back what it gets, and does what `order` says first."""

    inputs = (
        TensorSpec("order", "int32", (1,)),
        TensorSpec("large", "float32", LARGE),
        TensorSpec("half", "bfloat16", (3,)),
        TensorSpec("texts", "bytes", ("n",), {"n": 8, "bytes": 4096}),
        TensorSpec("page", "uint8", ("H", "W"), {"H": 16, "W": 16}),
        TensorSpec.json("document", 4096),
    )
    outputs = (
        TensorSpec("large", "float32", LARGE),
        TensorSpec("half", "bfloat16", (3,)),
        TensorSpec("texts", "bytes", ("n",), {"n": 8, "bytes": 4096}),
        TensorSpec("page", "uint8", ("H", "W"), {"H": 16, "W": 16}),
        TensorSpec.json("document", 4096),
    )

    def process(self, batch: Batch) -> None:
        for row, order in enumerate(batch.rows("order")):
            if order[0] == 1:
                batch.fail(row, "it was told to refuse")
                continue
            if order[0] == 2:
                raise ZeroDivisionError("it was told to fail")
            if order[0] == 3:
                time.sleep(2)
            for name in ("large", "half", "page"):
                value = batch.rows(name)[row]
                batch.out(row, name, value.shape)[...] = value
            batch.write(row, "texts", batch.rows("texts")[row])
            batch.write(row, "document", batch.document(row, "document"))


class Count:
    """Answers in parts: the numbers below the one that it gets, and fails at 7."""

    inputs = (TensorSpec("most", "int32", (1,)),)
    outputs = (TensorSpec("number", "int32", ("n",), {"n": 1024}),)

    def process(self, batch: Batch) -> Iterator[dict[str, Any]]:
        for number in range(int(batch.rows("most")[0][0])):
            if number == 7:
                raise ZeroDivisionError("seven")
            yield {"number": [np.array([number], np.int32)]}
