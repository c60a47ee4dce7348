"""Plans are built, by TensorRT-RTX where there is no GPU; without either, `pipeline build` says what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.cli.main import main
from stages.engines.plans import Profile, plans_of
from stages.engines.signature import TensorAxes
from stages.engines.tensorrt.build import _Log
from stages.engines.tensorrt.build import build_plan as build_real_plan
from stages.engines.tensorrt.engine import TensorRt
from stages.errors import ModelError
from stages.spec import TensorSpec

#: Where `make test-build` puts TensorRT-RTX: nothing else sees it there.
RTX = Path(__file__).parents[5] / "build/tensorrt-rtx"

has_rtx = (RTX / "tensorrt_rtx").is_dir() and importlib.util.find_spec("tensorrt") is None
skip_without_rtx = pytest.mark.skipif(not has_rtx, reason="builds with TensorRT-RTX, 95 MB: run `make test-build`")

_loaded: dict[str, ModuleType] = {}

Test = TypeVar("Test", bound=Callable[..., None])


def needs_rtx(test: Test) -> Test:
    """Mark a test that builds with TensorRT-RTX."""
    return pytest.mark.foreign(skip_without_rtx(test))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def rtx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX can be imported, in the tests that need it; it cannot be loaded twice."""
    if request.node.get_closest_marker("foreign") is None:
        return
    if not _loaded:
        monkeypatch.syspath_prepend(str(RTX))
        importlib.import_module("tensorrt_rtx")
        _loaded.update((name, sys.modules.pop(name)) for name in tuple(sys.modules) if name.startswith("tensorrt_rtx"))
    for name, module in _loaded.items():
        monkeypatch.setitem(sys.modules, name, module)


def build(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["build", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


@needs_rtx
def test_a_plan_a_batch_size_is_built_once(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_models / "double.onnx"
    code, said = build(capsys, model, "--batch", "4,1", "--precision", "fp32")
    assert code == 0
    assert said.count("built in") == 2
    assert [plan.batch for plan in plans_of("double")] == [1, 4]
    code, said = build(capsys, model, "--batch", "1,2,4", "--precision", "fp32")
    assert (said.count("up to date"), said.count("built in")) == (2, 1)
    assert [spec.shape for spec in TensorRt(model, {}).specs.inputs] == [(3,)]


@needs_rtx
def test_another_batch_than_the_model_was_saved_for_is_refused(
    tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = build(capsys, tiny_models / "double_in_twos.onnx", "--batch", "3", "--precision", "fp32")
    assert code == 3
    assert "x was saved for batches of 2, and 3 was asked for" in said


@needs_rtx
def test_a_free_dimension_needs_a_range_or_a_number(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_models / "double_any_length.onnx"
    code, said = build(capsys, model, "--batch", "1", "--precision", "fp32")
    assert code == 3
    assert "x has a free dimension besides the batch, 'length' in [-1, -1]: give its range, such as --range length=32:320:960" in said
    assert "or fix it with --shape x=320" in said


@needs_rtx
def test_a_free_dimension_is_built_within_its_range(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_models / "double_any_length.onnx"
    arguments = (model, "--batch", "2", "--precision", "fp32", "--range", "length=1:4:8")
    assert build(capsys, *arguments)[0] == 0
    (plan,) = plans_of("double_any_length")
    assert plan.profiles == (Profile("x", (2, 1), (2, 4), (2, 8)),)
    assert (plan.inputs, plan.outputs) == (
        (TensorAxes("x", "float32", (2, "length")),),
        (TensorAxes("y", "float32", (2, "length")), TensorAxes("total", "float32", (2,))),
    )  # fmt: skip
    assert TensorRt(model, {"length": 8}).specs.inputs == (TensorSpec("x", "float32", ("length",), {"length": 8}),)
    assert "up to date" in build(capsys, *arguments)[1]
    assert "built in" in build(capsys, *arguments[:-1], "length=1:4:16")[1]


@needs_rtx
def test_a_plan_may_take_and_give_bfloat16(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_models / "double_bfloat16.onnx"
    code, said = build(capsys, model, "--batch", "2", "--precision", "fp32", "--range", "length=1:4:8")
    assert code == 0, said
    (plan,) = plans_of("double_bfloat16")
    assert [(tensor.name, tensor.dtype) for tensor in plan.inputs + plan.outputs] == [("x", "bfloat16"), ("y", "bfloat16")]
    assert TensorRt(model, {"length": 8}).specs.inputs == (TensorSpec("x", "bfloat16", ("length",), {"length": 8}),)


@needs_rtx
def test_the_least_of_a_range_may_be_less_than_the_model_can_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = numpy_helper.from_array(np.ones((2, 1, 1, 5), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights"], ["y"])], "five_wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, "V"])], [weights],
    )  # fmt: skip
    model = tmp_path / "five_wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    assert build(capsys, model, "--batch", "1", "--precision", "fp32", "--range", "W=1:8:16")[0] == 0
    (plan,) = plans_of("five_wide")
    assert plan.outputs == (TensorAxes("y", "float32", (1, 2, 4, "V")),)


@needs_rtx
def test_more_than_the_plans_take_is_refused_with_the_command(
    tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models / "double_any_length.onnx"
    build(capsys, model, "--batch", "2", "--precision", "fp32", "--range", "length=1:4:8")
    with pytest.raises(ModelError, match=r"its plans take 1 to 8 for 'length' of x, and up to 9 may come; build them again"):
        TensorRt(model, {"length": 9})


@needs_rtx
def test_a_free_dimension_can_be_fixed_or_named(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_models / "double_any_length.onnx"
    build(capsys, model, "--batch", "2", "--precision", "fp32", "--shape", "x=5")
    assert TensorRt(model, {}).specs.outputs[0] == TensorSpec("y", "float32", (5,))
    build(capsys, model, "--batch", "2", "--precision", "fp32", "--shape", "x=W", "--range", "W=2:2:3")
    (plan,) = plans_of("double_any_length")
    assert plan.inputs == (TensorAxes("x", "float32", (2, "W")),)
    code, said = build(capsys, model, "--batch", "2", "--precision", "fp32", "--shape", "x=5", "--range", "W=2:2:3")
    assert (code, "no input has a free dimension 'W'" in said) == (3, True)
    code, said = build(capsys, model, "--batch", "2", "--precision", "fp32", "--shape", "x=5,5")
    assert (code, "which [5, 5] does not fit" in said) == (3, True)


@needs_rtx
def test_int8_of_a_library_without_calibration_needs_a_quantised_model(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = build(capsys, tiny_models / "double.onnx", "--batch", "1", "--precision", "int8")
    assert code == 3
    assert "does not calibrate; for int8, give it a model that is quantised already" in said
    code, said = build(capsys, quantised(tmp_path / "quantised.onnx"), "--batch", "1", "--precision", "int8")
    assert (code, said.count("built in")) == (0, 1)


def quantised(path: Path) -> Path:
    """y = x * w, x and w through int8 and back: (N, 4) -> (N, 4)."""
    from onnx import TensorProto, checker, helper, save

    def tensor(name: str, values: list[float], kind: int = TensorProto.FLOAT, dims: tuple[int, ...] = ()) -> Any:
        return helper.make_tensor(name, kind, dims, values)

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    identity = [float(row == column) for row in range(4) for column in range(4)]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [tensor("scale", [1 / 64]), tensor("zero", [0], TensorProto.INT8), tensor("w", identity, dims=(4, 4))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)
    return path


@needs_rtx
def test_a_precision_that_the_library_takes_from_the_model_is_refused(
    tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = build(capsys, tiny_models / "double.onnx", "--precision", "fp16")
    assert code == 3
    assert "computes in the types that the model has" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "1,x"], "--batch '1,x': expected numbers"),
        (["--batch", "0"], "expected numbers of at least 1"),
        (["--precision", "fp64"], "--precision 'fp64': expected fp32, fp16, int8, or several of them"),
        (["--shape", "x"], "--shape 'x': expected TENSOR=D,D,..."),
        (["--shape", "x=3,,W"], "--shape 'x=3,,W': expected TENSOR=D,D,..."),
        (["--range", "W=32:960"], "--range 'W=32:960': expected D=MIN:USUAL:MAX"),
        (["--range", "W=32:16:960"], "--range 'W=32:16:960': expected D=MIN:USUAL:MAX"),
        (["--uint8", "x.onnx", "--std", "0"], "--std: expected numbers other than 0"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_built(
    tiny_models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, told = build(capsys, tiny_models / "double.onnx", *arguments)
    assert code == 2
    assert said in told


def test_samples_that_cannot_be_read_are_refused(
    tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = build(capsys, tiny_models / "double.onnx", "--precision", "int8", "--calibration", tmp_path)
    assert code == 3
    assert f"calibration: no .npz file in {tmp_path}" in said


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx")), reason="TensorRT is installed"
)
def test_without_tensorrt_it_says_what_to_install(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = build(capsys, tiny_models / "double.onnx")
    assert code == 3
    assert "TensorRT is not installed" in said
    assert "trtlab[gpu]" in said


@needs_rtx
@pytest.mark.parametrize("batch", [4, 5])
def test_an_output_without_a_row_for_each_request_is_built_for_batches_of_one_only(
    tiny_models: Path, capsys: pytest.CaptureFixture[str], batch: int
) -> None:
    # Of five places, which is as many as a batch of 5 has rows.
    model = tiny_models / "with_anchors.onnx"
    code, said = build(capsys, model, "--batch", batch, "--precision", "fp32")
    assert code == 3
    assert f"output places has the shape [5, 2] for a batch of {batch if batch == 4 else 6}" in " ".join(said.split())
    assert build(capsys, model, "--batch", "1", "--precision", "fp32")[0] == 0
    specs = TensorRt(model, {}).specs
    assert {spec.name: spec.shape for spec in specs.outputs} == {"y": (3,), "places": (5, 2)}
    assert specs.alone == ("places",)


@needs_rtx
def test_weights_beside_the_file_are_found_from_anywhere_and_make_another_plan_when_they_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(factor: float) -> None:
        (tmp_path / "model.onnx.data").unlink(missing_ok=True)
        weights = numpy_helper.from_array(np.full((3, 1000), factor, np.float32), "w")
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 3), ("y", 1000))
        ]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [values[0]], [values[1]], [weights])
        whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(whole, model, save_as_external_data=True, location="model.onnx.data", size_threshold=0)

    model = tmp_path / "model.onnx"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for factor in (1.0, 2.0):
        save(factor)
        code, said = build(capsys, model, "--batch", "1", "--precision", "fp32")
        assert (code, said.count("built in")) == (0, 1)
    code, said = build(capsys, model, "--batch", "1", "--precision", "fp32")
    assert said.count("up to date") == 1
    assert len(plans_of("model")) == 2


def test_numbers_that_were_clamped_are_told_once_and_the_last_error_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)

    log = _Log(SimpleNamespace(ILogger=ILogger))
    clamped = "One or more weights outside the range of INT32 was clamped"
    for severity, message in ((2, clamped), (2, clamped), (2, "a slow kernel"), (3, clamped), (1, "no such layer")):
        log.logger.log(severity, message)
    assert capsys.readouterr().err == f"TensorRT: {clamped}\n"
    assert log.last == "no such layer"


@needs_rtx
def test_a_model_that_changes_while_it_is_built_leaves_no_plan(
    tmp_path: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes((tiny_models / "double.onnx").read_bytes())

    def build_plan(*arguments: Any) -> Any:
        made = build_real_plan(*arguments)
        model.write_bytes((tiny_models / "every_second.onnx").read_bytes())
        return made

    monkeypatch.setattr("pipeline.cli.build.build_plan", build_plan)
    code, said = build(capsys, model, "--batch", "1", "--precision", "fp32")
    assert code == 3
    assert "changed while a plan of it was built" in " ".join(said.split())
    assert plans_of("model") == []
