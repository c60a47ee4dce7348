from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stages.engines.onnxruntime import OnnxRuntime
from stages.errors import BadInput, ModelError, StageBroken

Load = Callable[..., OnnxRuntime]


@pytest.fixture
def load(tiny_models: Path) -> Iterator[Load]:
    engines: list[OnnxRuntime] = []

    def get(name: str, **max: int) -> OnnxRuntime:
        engines.append(OnnxRuntime(tiny_models / f"{name}.onnx", max))
        engines[-1].load(threads=1, device="cpu")
        return engines[-1]

    yield get
    for engine in engines:
        engine.close()


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_specs_are_the_models_own_without_the_batch_axis(tiny_models: Path) -> None:
    specs = OnnxRuntime.describe(tiny_models / "add.onnx", {})
    assert [str(spec) for spec in specs.inputs] == ["a float32[4]", "b int64[4]"]
    assert [str(spec) for spec in specs.outputs] == ["sum float32[4]"]
    assert specs.batch is None


def test_a_model_of_one_batch_size_says_so(tiny_models: Path) -> None:
    specs = OnnxRuntime.describe(tiny_models / "double_in_twos.onnx", {})
    assert specs.batch == 2
    assert specs.inputs[0].shape == (3,)


def test_a_free_dimension_takes_its_maximum_from_the_options(tiny_models: Path) -> None:
    specs = OnnxRuntime.describe(tiny_models / "double_any_length.onnx", {"length": 9})
    assert [str(spec) for spec in specs.outputs] == ["y float32[length<=9]", "total float32[]"]


def test_a_dimension_without_a_name_gets_the_tensors(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"dimension 1 of x is free, .*shapes: \{x: \[D1\]\}, max: \{D1: \.\.\.\}"):
        OnnxRuntime.describe(tiny_models / "double_unnamed.onnx", {})
    specs = OnnxRuntime.describe(tiny_models / "double_unnamed.onnx", {"x.0": 5, "y.0": 5})
    assert specs.inputs[0].max == {"x.0": 5}


def test_a_maximum_of_no_dimension_is_refused(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match="max names 'width', which is no free dimension of the model; it has: length"):
        OnnxRuntime.describe(tiny_models / "double_any_length.onnx", {"length": 9, "width": 9})


def test_outputs_are_written_into_the_callers_memory(load: Load) -> None:
    x, y = numbers(5, 3), np.zeros((5, 3), np.float32)
    assert load("double").run({"x": x}, {"y": y}) == {}
    assert (y == 2 * x).all()


def test_outputs_that_are_not_given_are_returned(load: Load) -> None:
    made = load("double_any_length", length=9).run({"x": numbers(2, 7)}, {})
    assert (made["y"] == 2 * numbers(2, 7)).all()
    assert (made["total"] == 2 * numbers(2, 7).sum(1)).all()


def test_several_inputs_of_several_dtypes_are_bound(load: Load) -> None:
    into = np.zeros((2, 4), np.float32)
    load("add").run({"a": numbers(2, 4), "b": np.full((2, 4), 10, np.int64)}, {"sum": into})
    assert (into == numbers(2, 4) + 10).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_batches_are_cut_and_padded_to_the_size_that_the_model_takes(load: Load, rows: int) -> None:
    x, y = numbers(rows, 3), np.zeros((rows, 3), np.float32)
    load("double_in_twos").run({"x": x}, {"y": y})
    assert (y == 2 * x).all()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_returned_outputs_are_cut_and_padded_too(load: Load, rows: int) -> None:
    x = numbers(rows, 4)
    assert (load("double_any_length_in_twos", length=9).run({"x": x}, {})["y"] == 2 * x).all()


def test_an_input_that_a_node_refuses_is_a_bad_input_and_the_next_one_is_computed(load: Load) -> None:
    engine = load("look_up")
    with pytest.raises(BadInput, match=r"look_up\.onnx cannot compute this input: .*Gather"):
        engine.run({"index": np.int64([[1], [99]])}, {})
    assert engine.run({"index": np.int64([[1], [3]])}, {})["value"].tolist() == [[10], [30]]


def test_warm_up_runs_every_size_at_the_maximum_of_free_dimensions(load: Load) -> None:
    engine = load("double_any_length", length=6)
    shapes = []
    run = engine.run
    engine.run = lambda inputs, outputs: shapes.append(inputs["x"].shape) or run(inputs, outputs)  # type: ignore[method-assign,func-returns-value]
    engine.warm_up([1, 4])
    assert shapes == [(1, 6), (4, 6)]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"no model file {tmp_path}/gone\.onnx"):
        OnnxRuntime(tmp_path / "gone.onnx", {})


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12\x04junk\x3a\xff\xff"])
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: onnxruntime .* cannot load it"):
        OnnxRuntime(path, {})


def test_a_model_that_was_cut_short_is_refused(tmp_path: Path, tiny_models: Path) -> None:
    path = tmp_path / "short.onnx"
    path.write_bytes((tiny_models / "double.onnx").read_bytes()[:60])
    with pytest.raises(ModelError, match="cannot load it"):
        OnnxRuntime(path, {})


def test_strings_cannot_travel(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"x is a tensor\(string\), which cannot lie in shared memory"):
        OnnxRuntime(tiny_models / "strings.onnx", {})


def test_a_model_without_a_common_batch_axis_is_refused_with_what_it_declares(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"expected the batch as first axis .* found x\['N', 3\], y\[1, 3\]"):
        OnnxRuntime(tiny_models / "sum_of_batch.onnx", {})


def test_it_runs_on_the_cpu_alone(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match="runs on the cpu, and this replica was placed on cuda:0"):
        OnnxRuntime(tiny_models / "double.onnx", {}).load(1, "cuda:0")


def test_running_before_load_or_after_close_is_refused(load: Load, tiny_models: Path) -> None:
    with pytest.raises(StageBroken, match="before load"):
        OnnxRuntime(tiny_models / "double.onnx", {}).run({"x": numbers(1, 3)}, {})
    engine = load("double")
    engine.close()
    engine.close()
    with pytest.raises(StageBroken, match="after close"):
        engine.run({"x": numbers(1, 3)}, {})
