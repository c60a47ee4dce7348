"""Names that a reader can write, and what an output's extent follows from."""

from __future__ import annotations

import pytest

from pipeline.generating.model import Declared
from pipeline.generating.naming import default_max, dimensions_of, follow, pipeline_name, plain_names


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mnist", "mnist"), ("ResNet50_v2.1", "resnet50-v2-1"), ("--", "model"), ("é", "model"), ("x" * 50, "x" * 40)],
)
def test_a_pipelines_name_is_one_that_a_config_may_have(stem: str, name: str) -> None:
    assert pipeline_name(stem) == name


def test_tensors_keep_a_name_that_is_an_argument_and_get_one_otherwise() -> None:
    names = ["x", "input:0", "input.0", "class", "priority", "0", "::", "Input3"]
    assert plain_names(names) == {
        "x": "x", "input:0": "input_0", "input.0": "input_0_2", "class": "class_", "priority": "priority_", "0": "tensor_0",
        "::": "tensor", "Input3": "Input3",
    }  # fmt: skip


def names_of(*inputs: Declared) -> list[tuple[int | str, ...]]:
    axes = dimensions_of(inputs, plain_names(tensor.name for tensor in inputs))
    return list(axes.values())


def test_chosen_names_stay_and_pictures_have_a_height_and_a_width() -> None:
    assert names_of(Declared("x", "float32", ("N", 3, "rows", "unk__2"))) == [(3, "rows", "W")]
    assert names_of(Declared("x", "float32", ("unk__0", 1, "unk__1", None))) == [(1, "H", "W")]
    assert names_of(Declared("x", "float32", (None, "?", "?", 3))) == [("H", "W", 3)]
    assert names_of(Declared("x", "float32", ("N", None, 7, None))) == [("x_1", 7, "x_3")]


def test_tokens_have_a_length_and_what_the_file_calls_the_same_is_the_same() -> None:
    ids, mask = Declared("ids", "int64", ("b", None)), Declared("mask", "int64", ("b", None))
    assert names_of(ids, mask) == [("length",), ("length",)]
    first, second = Declared("a", "float32", ("b", "s0", 2)), Declared("c", "float32", ("b", 4, "s0"))
    assert names_of(first, second) == [("a_1", 2), (4, "a_1")]


def test_an_output_follows_the_inputs_or_an_even_part_of_them_or_nothing() -> None:
    extents = [{"H": 320, "W": 160}, {"H": 640, "W": 640}]
    assert follow([320, 640], extents, "own") == "H"
    assert follow([160, 640], extents, "own") == "W"
    assert follow([20, 80], extents, "own") == "W/8"
    assert follow([21, 81], extents, "own") == "own"
    assert follow([100, 100], extents, "own") == 100
    # Without a dimension that changed, nothing is known about why it was 100.
    assert follow([100], [{}], "own") == "own"


def test_pictures_may_be_larger_than_what_nothing_is_known_of() -> None:
    assert (default_max("H"), default_max("length")) == (640, 128)
