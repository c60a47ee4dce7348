"""What a file declares as the specs of one request; what only runs can tell is in test_onnxruntime.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.engines.signature import TensorAxes, model_specs, quotient
from stages.errors import ModelError

PATH = Path("net.onnx")


def tensor(name: str, *axes: int | str | None) -> TensorAxes:
    return TensorAxes(name, "float32", axes)


X = tensor("x", "N", 3, "H")


def specs(inputs: list[TensorAxes], outputs: list[TensorAxes], **options: Any) -> Any:
    return model_specs(PATH, inputs, outputs, options.pop("max", {}), **options)


@pytest.mark.parametrize(
    ("first", "output", "shape", "whole", "alone", "doubtful"),
    [
        ("N", ("N", 5), (5,), False, False, False),
        ("N", ("M", 5), (5,), False, False, True),
        ("N", (None, 5), (5,), False, False, True),
        (None, (None, 5), (5,), False, False, True),
        ("N", ("H", 5), ("H", 5), True, True, False),
        ("N", (7, 5), (7, 5), True, True, False),
        ("N", (), (), True, True, False),
        ("N", (1, 5), (5,), False, True, False),
        ("N", ("H", "N", 5), ("H", 1, 5), True, True, False),
        (4, (4, 5), (5,), False, False, False),
        (4, ("M", 5), (5,), False, False, True),
        (1, (1, 5), (5,), False, False, False),
        (1, (7, 5), (7, 5), True, True, False),
        (1, ("M", 5), (5,), False, False, True),
        (1, (), (), True, True, False),
    ],
)
def test_the_first_axis_of_an_output_is_the_batch_or_is_not(
    first: int | str | None, output: tuple[Any, ...], shape: tuple[Any, ...], whole: bool, alone: bool, doubtful: bool
) -> None:
    found = specs([tensor("x", first, 3, "H")], [tensor("y", *output)], max={"H": 9})
    assert found.outputs[0].shape == shape
    assert found.batch == (first if isinstance(first, int) else None)
    assert (found.whole == {"y"}, found.alone == ("y",), found.doubtful == {"y"}) == (whole, alone, doubtful)


def test_max_and_shapes_say_that_an_output_is_whole() -> None:
    outputs = [tensor("boxes", "num_dets", 4), tensor("scores", "num_dets"), tensor("kept", None, 2)]
    found = specs([X], outputs, max={"H": 9, "num_dets": 100, "k": 7}, shapes={"kept": ["k", 2]})
    assert [str(spec) for spec in found.outputs] == [
        "boxes float32[num_dets<=100, 4]", "scores float32[num_dets<=100]", "kept float32[k<=7, 2]",
    ]  # fmt: skip
    assert found.alone == ("boxes", "scores", "kept")


def test_the_name_of_the_batch_is_no_dimension_that_max_could_name() -> None:
    with pytest.raises(ModelError, match="max names 'N', which is not a free dimension of the model; it has: H"):
        specs([X], [tensor("y", "N", 5)], max={"H": 9, "N": 8})


@pytest.mark.parametrize("output", [(), (5, 4), ("n", 4)])
def test_a_model_of_batches_of_several_gives_rows_only(output: tuple[Any, ...]) -> None:
    with pytest.raises(ModelError, match=r"takes batches of 2, and its output y\[.*\] has no row .*leave_out: \[y\]"):
        specs([tensor("x", 2, 3)], [tensor("y", *output), tensor("z", 2)], max={"n": 7} if "n" in output else {})


def test_what_is_left_out_needs_no_maximum() -> None:
    outputs = [tensor("y", "N", 5), tensor("features", "N", "long")]
    with pytest.raises(ModelError, match=r"give one: with: \{max: \{long: \.\.\.\}\}; or leave it out: leave_out: \[features\]"):
        specs([X], outputs, max={"H": 9})
    assert [spec.name for spec in specs([X], outputs, max={"H": 9}, leave_out=["features"]).outputs] == ["y"]


def test_generated_names_are_not_repeated_and_are_told_how_to_replace() -> None:
    generated = "floor(floor(" * 20 + "H/2 - 1/2" + ")/2) + 1" * 20
    with pytest.raises(ModelError) as refused:
        specs([tensor("x", "N", 3, generated, 8)], [tensor("y", "N")])
    said = str(refused.value)
    assert "dimension 2 of x is free" in said
    assert "shapes: {x: [3, D1, 8]}, max: {D1: ...}" in said
    assert len(said) < 300


def test_the_axes_of_a_whole_output_are_counted_from_its_first() -> None:
    with pytest.raises(ModelError, match="dimension 1 of y is free, and called width"):
        specs([X], [tensor("y", "num_dets", "width")], max={"H": 9, "num_dets": 5})


@pytest.mark.parametrize(("axis", "found"), [("W/8", ("W", 8)), ("W/0", None), ("W", None), (7, None), (None, None)])
def test_a_quotient_is_of_a_name_by_a_number(axis: Any, found: Any) -> None:
    assert quotient(axis) == found
