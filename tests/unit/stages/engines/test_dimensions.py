"""Which names of free dimensions a person chose, and the message if one has no maximum."""

from __future__ import annotations

import pytest

from stages.engines.dimensions import is_chosen, unbounded


@pytest.mark.parametrize("name", ["N", "batch", "H", "sequence_length", "num_dets", "size", "s"])
def test_a_name_that_a_person_would_write_is_chosen(name: str) -> None:
    assert is_chosen(name)


@pytest.mark.parametrize(
    "name", [None, "", "?", "unk__653", "p2o.DynamicDimension.1", "floor(H/2)", "Reshapeboxes_dim_0", "s0", "s77", "x.0", "W/8"]
)
def test_a_name_that_a_converter_made_is_not(name: str | None) -> None:
    assert not is_chosen(name)


def test_a_dimension_with_a_name_needs_its_maximum_alone() -> None:
    said = unbounded("input_ids", ("sequence",), "sequence", 1)
    assert said.endswith("with: {max: {sequence: ...}}")
    assert "shapes" not in said


def test_a_dimension_without_one_needs_a_name_too_and_the_message_stays_short() -> None:
    generated = "floor(floor(floor(unk__2/2 - 1/2)/2 - 1/2)/2) + 1"
    said = unbounded("y", (3, generated, generated, "W"), generated, 2)
    assert said.startswith("dimension 2 of y is free")
    assert said.endswith("with: {shapes: {y: [3, D1, D1, W]}, max: {D1: ...}}")
    assert "floor" not in said
    assert len(said) < 220
