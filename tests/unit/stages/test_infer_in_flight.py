"""Infer over an engine that takes rows where they lie and computes beside the CPU, as TensorRT does.

The engine here is onnxruntime behind that interface: what is tested is what the stage hands over and gets back.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import engines
from stages.copies import PADDED
from stages.engines.onnxruntime import OnnxRuntime
from stages.errors import BadInput
from stages.infer import Infer
from stages.stage import Array, StageContext
from stages.testing import run

Rows = Mapping[str, Sequence[Array]]


class RowByRow(OnnxRuntime):
    """Computes at once; tells that it is over only when it is asked for the third time."""

    can_start = True
    started: list[tuple[Rows, Rows]]

    def load(self, threads: int, device: str, max_batch: int = 1) -> None:
        super().load(threads, device, max_batch)
        self.started = []

    def start(self, inputs: Rows, outputs: Rows) -> Any:
        self.started.append((inputs, outputs))
        made = self.run({name: np.stack(rows) for name, rows in inputs.items()}, {})
        for name, rows in outputs.items():
            for into, row in zip(rows, made[name]):
                into[...] = row
        return [None] * 3

    def done(self, token: Any) -> bool:
        token.pop()
        return not token


@pytest.fixture
def ready(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(engines.ENGINES, "rows", "row_by_row:RowByRow")
    monkeypatch.setitem(sys.modules, "row_by_row", sys.modules[__name__])

    def ready(name: str, **options: Any) -> Infer:
        stage = Infer(f"{name}.onnx", engine="rows", base_dir=tiny_models, **options)
        stage.setup(StageContext(max_batch=4))
        return stage

    return ready


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_rows_are_handed_over_where_they_lie(ready: Any) -> None:
    stage = ready("double")
    x = numbers(3, 3)
    done = run(stage, x=x)
    ((inputs, _),) = stage._engine.started
    assert all(np.shares_memory(row, own) for row, own in zip(inputs["x"], done.rows("x")))
    assert [done.result(row, "y").tolist() for row in range(3)] == (2 * x).tolist()
    assert done.bytes_copied == 0


def test_outputs_of_free_shapes_get_the_shape_that_the_engine_tells(ready: Any) -> None:
    stage = ready("double_any_length", max={"length": 9})
    done = run(stage, x=[numbers(5), numbers(5)])
    assert [done.result(row, "y").tolist() for row in range(2)] == [[0, 2, 4, 6, 8]] * 2
    ((_, outputs),) = stage._engine.started
    assert [row.shape for row in outputs["y"]] == [(5,), (5,)]
    assert done.bytes_copied == 0


def test_rows_are_padded_to_one_shape_and_the_copy_is_counted(ready: Any) -> None:
    stage = ready("double_any_length", max={"length": 9}, pad={"length": 4})
    done = run(stage, x=[numbers(5), numbers(7)])
    assert done.result(0, "y").tolist() == [0, 2, 4, 6, 8, 0, 0, 0]
    assert done.copies["input", "x", PADDED] == 2 * 8 * 4


def test_rows_of_different_shapes_are_not_one_batch(ready: Any) -> None:
    with pytest.raises(BadInput, match="rows of different shapes"):
        run(ready("double_any_length", max={"length": 9}), x=[numbers(3), numbers(5)])
