"""What a model's file declares, and what the model does with numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.errors import StartError
from pipeline.generating.model import ProbedModel, numbers_for

TINY = Path(__file__).parents[3] / "data/models"


def test_tensors_and_shapes_are_the_files_own() -> None:
    model = ProbedModel(TINY / "double_any_length.onnx")
    assert [(tensor.name, tensor.dtype, tensor.axes) for tensor in model.inputs] == [("x", "float32", ("N", "length"))]
    assert [str(tensor) for tensor in model.outputs] == ["y float32[N, length]", "total float32[N]"]
    assert model.run({"x": np.zeros((2, 5), np.float32)}) == {"y": (2, 5), "total": (2,)}


def test_a_model_of_bfloat16_is_run_like_others() -> None:
    model = ProbedModel(TINY / "double_bfloat16.onnx")
    assert str(model.inputs[0]) == "x bfloat16[N, length]"
    numbers = numbers_for("x", "bfloat16", (2, 5))
    assert numbers.dtype.name == "bfloat16"
    assert len(np.unique(numbers.astype(np.float32))) > 5
    assert model.run({"x": numbers}) == {"y": (2, 5)}


def test_what_the_model_does_not_compute_is_said_in_a_line() -> None:
    model = ProbedModel(TINY / "double.onnx")
    with pytest.raises(ValueError, match=r"^[^\n]*invalid dimensions[^\n]*$"):
        model.run({"x": np.zeros((2, 4), np.float32)})


def test_a_file_that_is_none_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no model file"):
        ProbedModel(tmp_path / "none.onnx")
    tmp_path.joinpath("bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(StartError, match="cannot load it"):
        ProbedModel(tmp_path / "bad.onnx")


def test_texts_and_sequences_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"input 'x' is a tensor\(string\): .* a stage before it"):
        ProbedModel(TINY / "strings.onnx")
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["s"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "s.onnx")
    with pytest.raises(StartError, match=r"output 's' is a seq\(.*\): .*export the model without that output"):
        ProbedModel(tmp_path / "s.onnx")


def test_numbers_are_floats_from_0_to_1_that_differ_row_by_row_and_ones_of_others() -> None:
    floats = numbers_for("x", "float16", (2, 8))
    assert floats.dtype == np.float16
    assert 0 <= floats.min() <= floats.max() <= 1
    assert (floats[0] != floats[1]).any()
    assert numbers_for("ids", "int64", (2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert numbers_for("mask", "bool", (2,)).tolist() == [True, True]
