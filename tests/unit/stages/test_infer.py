from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.errors import BadInput, BadOption, ModelError
from stages.infer import Infer
from stages.stage import Batch, StageContext
from stages.testing import run


def ready(model: Path, max_batch: int = 4, **options: Any) -> Infer:
    stage = Infer(model.name, base_dir=model.parent, **options)
    stage.setup(StageContext(max_batch=max_batch))
    return stage


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_batch_goes_through_the_model_without_a_copy(tiny_models: Path) -> None:
    x = numbers(4, 3)
    done = run(ready(tiny_models / "double.onnx"), x=x)
    for row in range(4):
        assert (done.result(row, "y") == 2 * x[row]).all()
    assert done.bytes_copied == 0


def test_outputs_of_a_free_shape_are_as_large_as_the_model_makes_them(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9})
    done = run(stage, x=numbers(2, 5))
    assert done.result(1, "y").tolist() == [10, 12, 14, 16, 18]
    assert done.result(1, "total") == 70


def test_rows_of_different_shapes_are_not_one_batch(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double_any_length.onnx", max={"length": 9})
    with pytest.raises(BadInput, match="rows of different shapes"):
        run(stage, x=[numbers(5), numbers(4)])


def test_tensors_take_the_names_of_the_graph(tiny_models: Path) -> None:
    stage = ready(tiny_models / "add.onnx", inputs={"image": "a"}, outputs={"scores": "sum"})
    assert [spec.name for spec in stage.inputs] == ["image", "b"]
    done = run(stage, image=numbers(1, 4), b=np.int64([[1, 1, 1, 1]]))
    assert done.result(0, "scores").tolist() == [1, 2, 3, 4]


def test_a_name_that_the_model_has_not_is_refused(tiny_models: Path) -> None:
    with pytest.raises(BadOption, match="inputs: the model has no 'c'; it has a, b"):
        Infer("add.onnx", inputs={"image": "c"}, base_dir=tiny_models)


def test_setup_warms_up_one_row_and_a_full_batch(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[Any] = []
    monkeypatch.setattr("stages.engines.engine.Engine.warm_up", lambda self, given, extents: sizes.append(list(given)))
    ready(tiny_models / "double.onnx", max_batch=8)
    ready(tiny_models / "double.onnx", max_batch=1)
    assert sizes == [[1, 8], [1]]


def test_rows_that_lie_apart_are_gathered_and_scattered(tiny_models: Path) -> None:
    stage = ready(tiny_models / "double.onnx")
    x, y = numbers(2, 8), np.zeros((2, 8), np.float32)
    batch = Batch(
        2, {"x": [row[:3] for row in x]}, {s.name: s for s in stage.outputs}, lambda row, name, shape: y[row, :3]
    )
    batch.finish(stage.process(batch))  # type: ignore[func-returns-value]
    assert (y[:, :3] == 2 * x[:, :3]).all()
    assert (y[:, 3:] == 0).all()
    assert batch.bytes_copied == 2 * 2 * 3 * 4


def test_constructing_is_enough_for_the_specs_and_teardown_closes(tiny_models: Path) -> None:
    stage = Infer("double.onnx", base_dir=tiny_models)
    assert str(stage.inputs[0]) == "x float32[3]"
    stage.setup(StageContext())
    stage.teardown()


def test_a_model_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*resnet50\.onnx, and no 'resnet50\.onnx' in the model catalogue"):
        Infer("resnet50.onnx", base_dir=tmp_path)
