"""Plans are built, by TensorRT-RTX where there is no GPU; without either, `pipeline build` says what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pipeline.cli.main import main
from stages.engines.plans import plans_of
from stages.engines.tensorrt import TensorRt

has_rtx = importlib.util.find_spec("tensorrt_rtx") is not None and importlib.util.find_spec("tensorrt") is None
needs_rtx = pytest.mark.skipif(not has_rtx, reason="builds with tensorrt_rtx: pip install tensorrt-rtx-cu13 (95 MB)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path / "cache"))


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
def test_a_free_dimension_besides_the_batch_is_refused(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = build(capsys, tiny_models / "double_any_length.onnx", "--batch", "1", "--precision", "fp32")
    assert code == 3
    assert "a plan has fixed shapes" in said


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
        (["--precision", "fp64"], "--precision 'fp64': expected fp32 or fp16"),
        (["--uint8", "x.onnx", "--std", "0"], "--std: expected numbers other than 0"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_built(
    tiny_models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, told = build(capsys, tiny_models / "double.onnx", *arguments)
    assert code == 2
    assert said in told


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx")), reason="TensorRT is installed"
)
def test_without_tensorrt_it_says_what_to_install(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = build(capsys, tiny_models / "double.onnx")
    assert code == 3
    assert "TensorRT is not installed" in said
    assert "trtlab[gpu]" in said
