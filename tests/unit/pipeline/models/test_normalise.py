"""A model that takes pixels says what the same model says of pixels normalised outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.cli.main import main
from pipeline.models.normalise import read_whole, take_pixels
from stages.engines.onnxruntime import OnnxRuntime
from stages.errors import ModelError


def identity(*shape: int | str, dtype: int = TensorProto.FLOAT) -> bytes:
    """A model that gives back its input, and its negative beside it: the input is read twice."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])],
        "identity",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, shape) for name in ("y", "z")],
    )
    made: bytes = helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return made


def run(tmp_path: Path, content: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    path = tmp_path / "pixels.onnx"
    path.write_bytes(content)
    engine = OnnxRuntime(path, {})
    engine.load(1, "cpu")
    assert engine.specs.inputs[0].dtype == "uint8"
    return engine.run({"x": pixels}, {})


MEAN, STD = [104.0, 117.0, 123.0], [1.0, 2.0, 4.0]
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), np.uint8)
NORMALISED = (PIXELS.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)


def test_channels_last_stay_last(tmp_path: Path) -> None:
    made = run(tmp_path, take_pixels(identity("N", 4, 5, 3), MEAN, STD, hwc_to_chw=False), PIXELS)
    np.testing.assert_allclose(made["y"], NORMALISED, rtol=1e-6)
    np.testing.assert_allclose(made["z"], -NORMALISED, rtol=1e-6)


def test_channels_first_stay_first(tmp_path: Path) -> None:
    first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    made = run(tmp_path, take_pixels(identity("N", 3, 4, 5), MEAN, STD, hwc_to_chw=False), first)
    np.testing.assert_allclose(made["y"], NORMALISED.transpose(0, 3, 1, 2), rtol=1e-6)


def test_channels_come_last_and_are_put_first(tmp_path: Path) -> None:
    made = run(tmp_path, take_pixels(identity("N", 3, 4, 5), MEAN, STD, hwc_to_chw=True), PIXELS)
    np.testing.assert_allclose(made["y"], NORMALISED.transpose(0, 3, 1, 2), rtol=1e-6)


def test_one_number_is_for_all_channels_and_neutral_ones_cost_nothing(tmp_path: Path) -> None:
    content = take_pixels(identity(2, 4, 5, 3), [127.0], [1.0], hwc_to_chw=False)
    np.testing.assert_array_equal(run(tmp_path, content, PIXELS)["y"], PIXELS.astype(np.float32) - 127)
    assert [node.op_type for node in onnx.load_model_from_string(content).graph.node][:2] == ["Cast", "Sub"]


@pytest.mark.parametrize(
    ("content", "mean", "hwc_to_chw", "said"),
    [
        (identity("N", 4, 5, 3), [1.0, 2.0], False, "mean: expected 1 number or 3, found 2"),
        (identity("N", 4, 5, 3), [0.0], True, "expected 1 or 3 channels in axis 1 or 3"),
        (identity("N", 4, 5, 7), [0.0], False, "expected 1 or 3 channels in axis 1 or 3"),
        (identity("N", 3), [0.0], False, r"expected \(N, C, H, W\)"),
        (identity("N", 4, 5, 3, dtype=TensorProto.DOUBLE), [0.0], False, "one float32 input, found x"),
    ],
)
def test_what_does_not_suit_the_model_is_refused(
    content: bytes, mean: list[float], hwc_to_chw: bool, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        take_pixels(content, mean, [1.0], hwc_to_chw)


def beside(path: Path, factor: float) -> None:
    """A model of pictures whose one weight lies in weights.data beside it."""
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), factor, np.float32), "w")
    axes = ("N", 3, 2, 2)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [values[0]], [values[1]], [weights])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)


def test_weights_beside_the_file_are_taken_along_and_never_another_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, factor in (("here", 2.0), ("there", 7.0)):
        (tmp_path / folder).mkdir()
        beside(tmp_path / folder / "model.onnx", factor)
    made = tmp_path / "there" / "pixels.onnx"
    with pytest.raises(SystemExit) as ended:
        main(["build", str(tmp_path / "here/model.onnx"), "--uint8", str(made), "--no-plans"])
    assert not ended.value.code
    engine = OnnxRuntime(made, {})
    engine.load(1, "cpu")
    assert (engine.run({"x": np.full((1, 3, 2, 2), 5, np.uint8)}, {})["y"] == 10).all()


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    beside(tmp_path / "model.onnx", 2.0)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: expected weights of less than 2 GiB beside it"):
        read_whole(tmp_path / "model.onnx")


def test_a_model_is_not_written_over_by_its_own_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(identity("N", 3, 2, 2))
    before = model.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["build", str(model), "--uint8", str(model), "--no-plans"])
    assert ended.value.code == 2
    assert "expected another file than the model itself" in " ".join(capsys.readouterr().err.split())
    assert model.read_bytes() == before
