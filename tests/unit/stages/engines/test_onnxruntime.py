from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.engines.onnxruntime import OnnxRuntime
from stages.engines.signature import TensorAxes, model_specs
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
    with pytest.raises(ModelError, match="max names 'width', which is not a free dimension of the model; it has: length"):
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


def test_memory_that_cannot_be_had_is_not_the_requests_fault(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load("double")
    texts = ["Non-zero status code returned while running Mul node: Failed to allocate memory for 8", "the device is gone"]

    class Session:
        def io_binding(self) -> Any:
            return session.io_binding()

        def run_with_iobinding(self, binding: Any) -> None:
            raise RuntimeError(texts[0])

    session, failing = engine._session, Session()
    engine._session = failing  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"double\.onnx: the memory for this batch could not be had: .*Failed"):
        engine.run({"x": numbers(1, 3)}, {})
    del texts[0]
    with pytest.raises(ModelError, match=r"double\.onnx: onnxruntime .* failed: the device is gone"):
        engine.run({"x": numbers(1, 3)}, {})


def test_an_input_with_gaps_is_never_read_as_if_it_had_none(load: Load) -> None:
    with pytest.raises(StageBroken, match="input 'x' came as an array with gaps"):
        load("double").run({"x": numbers(4, 6)[:, ::2]}, {})


# -- rows ------------------------------------------------------------------------------------------


def test_an_output_that_is_a_number_of_detections_is_refused_by_the_warm_up(load: Load) -> None:
    with pytest.raises(ModelError) as refused:
        load("detect").warm_up([1])
    said = str(refused.value)
    assert "detect.onnx: output 'found' has the shape [0, 2] for a batch of 1; expected 1 as first extent" in said
    assert "batch: {max_size: 1}" in said
    assert "with: {max: {num_dets: ...}}" in said
    assert "leave_out: [found]" in said


def test_a_first_axis_without_a_name_is_told_how_to_name(load: Load) -> None:
    with pytest.raises(ModelError, match=r"with: \{shapes: \{found: \[n, 2\]\}, max: \{n: \.\.\.\}\}"):
        load("detect_in_ones").warm_up([1])


def test_as_many_rows_as_requests_by_chance_are_found_out_with_other_numbers(load: Load) -> None:
    # Zeros give a row for each request, at every size.
    engine = load("drop_from_half")
    engine.warm_up([1])
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[\d+, 3\] for a batch of 8; expected 8"):
        load("drop_from_half").warm_up([1, 8])


def test_other_numbers_that_a_model_refuses_say_nothing_of_its_rows(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load("drop_from_five")
    execute, seen = engine._execute, []

    def picky(inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(len(inputs["x"]))
        if inputs["x"].any():
            raise ModelError("these numbers mean nothing")
        return execute(inputs, outputs)

    monkeypatch.setattr(engine, "_execute", picky)
    engine.warm_up([1, 4])
    assert seen == [1, 4, 4]


def test_what_the_warm_up_finds_is_said_once(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="for a batch of 8; expected 8"):
        load("drop_from_half").warm_up([1, 8])
    assert capfd.readouterr().err == ""


def test_rows_of_a_batch_are_never_another_requests(load: Load) -> None:
    engine = load("drop_from_five")
    engine.warm_up([1, 4])
    kept, dropped = np.float32([1, 2, 3]), np.float32([9, 9, 9])
    into = np.full((2, 3), -1, np.float32)
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[1, 3\] for a batch of 2; expected 2"):
        engine.run({"x": np.stack([dropped, kept])}, {"y": into})
    assert (into == -1).all()
    # Alone, each has its own, or nothing.
    with pytest.raises(ModelError, match=r"has the shape \[0, 3\] for a batch of 1"):
        engine.run({"x": dropped[np.newaxis]}, {})
    assert (engine.run({"x": kept[np.newaxis]}, {})["y"] == kept).all()
    # What was seen once may happen again where the numbers are equal by chance.
    with pytest.raises(ModelError, match="for a batch of 1"):
        engine.run({"x": np.stack([kept, dropped])}, {})
    assert (engine.run({"x": np.stack([kept, 2 * kept - 2])}, {})["y"][1] == 2 * kept - 2).all()


def test_a_batch_that_must_be_filled_up_is_refused_once_rows_were_missing(load: Load) -> None:
    engine = load("drop_in_twos")
    engine.warm_up([1, 4])
    assert (engine.run({"x": np.float32([[1, 2, 3]])}, {})["y"] == [[1, 2, 3]]).all()
    for rows in ([[9, 9, 9], [1, 2, 3]], [[9, 9, 9]], [[1, 2, 3]]):
        with pytest.raises(ModelError, match=r"output 'y' has the shape \[1, 3\] for a batch of 2"):
            engine.run({"x": np.float32(rows)}, {})


def test_after_a_wrong_number_of_rows_batches_are_run_one_by_one(load: Load, capfd: pytest.CaptureFixture[str]) -> None:
    engine = load("drop_from_five")
    with pytest.raises(ModelError):
        engine.run({"x": np.float32([[9, 9, 9], [1, 2, 3]])}, {})
    assert "from now on one by one" in capfd.readouterr().err
    sizes = []
    execute = engine._execute
    engine._execute = lambda ins, outs: sizes.append(len(ins["x"])) or execute(ins, outs)  # type: ignore[method-assign,func-returns-value]
    into = np.zeros((3, 3), np.float32)
    engine.run({"x": numbers(3, 3) / 9}, {"y": into})
    assert sizes == [1, 1, 1]
    assert (into == numbers(3, 3) / 9).all()


def test_a_warm_up_that_cannot_compute_zeros_is_the_models_fault(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load("double")

    def refuse(inputs: object, outputs: object) -> dict[str, np.ndarray]:
        raise BadInput("no")

    monkeypatch.setattr(engine, "_execute", refuse)
    with pytest.raises(ModelError, match="zeros in a batch of 1: no"):
        engine.warm_up([1])


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


def test_bfloat16_is_computed_in_place_and_out_of_place(load: Load) -> None:
    engine = load("double_bfloat16", length=4)
    x = np.array([[0.5, 3, -0.0]], np.float32).astype("bfloat16")
    y = np.zeros_like(x)
    assert engine.run({"x": x}, {"y": y}) == {}
    assert y.tolist() == [[1.0, 6.0, 0.0]]
    made = engine.run({"x": x}, {})["y"]
    assert made.dtype == y.dtype
    assert made.tolist() == y.tolist()
    assert engine.run({"x": x[:, :0]}, {})["y"].shape == (1, 0)
    engine.warm_up([1, 2])


def test_bfloat16_is_refused_before_it_runs_if_onnxruntime_is_too_old(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type")
    with pytest.raises(ModelError, match=r"input x is a tensor\(bfloat16\), which onnxruntime takes from 1\.20 on"):
        OnnxRuntime.describe(tiny_models / "double_bfloat16.onnx", {"length": 4})


def test_a_tensor_without_elements_is_computed(load: Load) -> None:
    engine = load("double_any_length", length=4)
    y = np.zeros((2, 0), np.float32)
    made = engine.run({"x": np.zeros((2, 0), np.float32)}, {"y": y})
    assert made["total"].tolist() == [0, 0]


def test_strings_are_refused_with_what_is_expected(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"input x is a tensor\(string\), which the engine does not take; expected a "):
        OnnxRuntime(tiny_models / "strings.onnx", {})


def test_a_model_whose_inputs_have_no_common_batch_axis_is_refused_with_what_it_declares() -> None:
    inputs = (TensorAxes("x", "float32", ("N", 3)), TensorAxes("state", "float32", (2, "N", 8)))
    with pytest.raises(ModelError, match=r"batch as first axis of each input, .* found x\['N', 3\], state\[2, 'N', 8\]"):
        model_specs(Path("net.onnx"), inputs, inputs, {})


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
