"""The zones of a camera in a config's text: only what has changed is written, and comments stay."""

from __future__ import annotations

import pytest
import yaml

from pipeline.config.zones import said_of, with_zones
from pipeline.errors import ConfigError

SQUARE = [[0, 0], [1, 0], [1, 0.5]]
OTHER = [[0.25, 0.25], [0.5, 0.25], [0.5, 1.0]]

TEXT = """\
# The edge.
stages:
  - name: track  # follows
    use: stages.video.track:Track
    with:
      labels: [car]
      default:
        zones: {near: [[0, 0], [1, 0], [1, 0.5]]}  # for all
      cameras:
        door:
          zones:
            # Of the steps.
            porch: [[0, 0], [1, 0], [1, 0.5]]  # measured in May
            # Cars alone.
            road: {polygon: [[0, 0], [1, 0], [1, 0.5]], labels: [car]}
          rules: [{rule: enter, zone: porch}]
    inputs: [a.b]  # kept
"""


def zones(text: str, camera: str = "door") -> dict:  # type: ignore[type-arg]
    return said_of(text, "edge.yaml", "track", camera)


def comments(text: str) -> int:
    return text.count("#")


def test_a_zone_with_other_corners_changes_its_line_alone() -> None:
    made = with_zones(TEXT, "edge.yaml", "track", "door", {"porch": OTHER, "road": SQUARE})
    assert made == TEXT.replace("porch: [[0, 0], [1, 0], [1, 0.5]]", "porch: [[0.25, 0.25], [0.5, 0.25], [0.5, 1]]")


def test_what_else_is_said_of_a_zone_stays() -> None:
    made = with_zones(TEXT, "edge.yaml", "track", "door", {"porch": SQUARE, "road": OTHER})
    assert zones(made)["road"] == {"polygon": OTHER, "labels": ["car"]}
    assert comments(made) == comments(TEXT)


def test_a_new_zone_is_a_line_behind_the_last_one() -> None:
    made = with_zones(TEXT, "edge.yaml", "track", "door", {"porch": SQUARE, "road": SQUARE, "gate": OTHER})
    assert list(zones(made)) == ["porch", "road", "gate"]
    assert "            gate: [[0.25, 0.25], [0.5, 0.25], [0.5, 1]]\n" in made
    assert comments(made) == comments(TEXT)


def test_a_zone_that_is_gone_takes_its_own_line_and_no_other() -> None:
    made = with_zones(TEXT, "edge.yaml", "track", "door", {"porch": SQUARE})
    assert made == TEXT.replace("            road: {polygon: [[0, 0], [1, 0], [1, 0.5]], labels: [car]}\n", "")


def test_a_camera_that_has_those_of_default_gets_all_of_them_as_its_own() -> None:
    made = with_zones(TEXT, "edge.yaml", "track", "yard", {**zones(TEXT, "yard"), "gate": OTHER})
    assert zones(made, "yard") == {"near": SQUARE, "gate": OTHER}
    assert zones(made, "other") == {"near": SQUARE}
    assert comments(made) == comments(TEXT)


def test_a_camera_without_any_zone_says_so_and_has_none_of_default() -> None:
    assert zones(with_zones(TEXT, "edge.yaml", "track", "yard", {}), "yard") == {}
    assert zones(with_zones(TEXT, "edge.yaml", "track", "door", {}), "door") == {}


def test_in_braces_zones_change_come_and_go() -> None:
    text = "stages: [{name: track, with: {cameras: {door: {zones: {a: [[0, 0], [1, 0], [1, 0.5]], b: [[0, 0], [1, 0], [1, 0.5]]}}}}}]\n"
    made = with_zones(text, "edge.yaml", "track", "door", {"b": OTHER, "c": SQUARE})
    assert zones(made) == {"b": OTHER, "c": SQUARE}
    assert zones(with_zones(text, "edge.yaml", "track", "door", {"a": SQUARE})) == {"a": SQUARE}


def test_a_zone_of_several_lines_is_replaced_and_removed() -> None:
    long = TEXT.replace("porch: [[0, 0], [1, 0], [1, 0.5]]  #", "porch:\n              - [0, 0]\n              - [1, 0]\n              - [1, 0.5]  #")
    assert zones(long) == zones(TEXT)
    assert zones(with_zones(long, "edge.yaml", "track", "door", {"porch": OTHER, "road": SQUARE}))["porch"] == OTHER
    assert list(zones(with_zones(long, "edge.yaml", "track", "door", {"road": SQUARE}))) == ["road"]


def test_where_parts_are_shared_it_is_refused_and_says_so() -> None:
    shared = TEXT.replace("zones:\n            #", "zones: &all\n            #").replace("inputs: [a.b]", "after: *all")
    with pytest.raises(ConfigError, match="without losing"):
        with_zones(shared, "edge.yaml", "track", "door", {"porch": OTHER, "road": SQUARE})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"a b": SQUARE}, "names"),
        ({"a.b": SQUARE}, "names"),
        ({"null": SQUARE}, "names"),
        ({"x: [1]\nstages": SQUARE}, "names"),
        ({"a": SQUARE[:2]}, "3 to 100"),
        ({"a": [[0, 0], [1, 0], [1, 1.5]]}, "from 0 to 1"),
        ({"a": [[0, 0], [1, 0], [float("nan"), 1]]}, "from 0 to 1"),
        ({f"z{n}": SQUARE for n in range(51)}, "at most 50"),
    ],
)
def test_what_is_no_zone_is_refused(bad: dict[str, list[list[float]]], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        with_zones(TEXT, "edge.yaml", "track", "door", bad)


def test_a_config_without_that_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="the stage follow"):
        with_zones(TEXT, "edge.yaml", "follow", "door", {"a": SQUARE})


def test_the_example_of_the_project_can_be_edited() -> None:
    from tests.conftest import ROOT

    text = (ROOT / "configs/edge.yaml").read_text()
    made = with_zones(text, "edge.yaml", "track", "door", {"gate": OTHER})
    assert yaml.safe_load(made)["stages"][-1]["with"]["cameras"] == {"door": {"zones": {"gate": OTHER}}}
    assert comments(made) == comments(text)


BLOCK = """\
stages:
  - name: track
    with:
      cameras:
        door:
          zones:
            porch:
              - [0, 0]  # the gate
              - [1, 0]
              - [1, 0.5]
            road:
              polygon: [[0, 0], [1, 0], [1, 0.5]]  # measured
              labels: [car]  # no bicycles: "#7"
"""


def test_comments_within_a_zone_stay_beside_its_corners() -> None:
    made = with_zones(BLOCK, "edge.yaml", "track", "door", {"porch": SQUARE, "road": OTHER})
    assert made == BLOCK.replace("[[0, 0], [1, 0], [1, 0.5]]", "[[0.25, 0.25], [0.5, 0.25], [0.5, 1]]")


def test_corners_that_have_comments_of_their_own_are_not_written_over() -> None:
    with pytest.raises(ConfigError, match="cannot be written there without losing comments"):
        with_zones(BLOCK, "edge.yaml", "track", "door", {"porch": OTHER, "road": SQUARE})


@pytest.mark.parametrize("zone", ["{labels: [car]}", "5", "[1, 2]", "[[0, 0], [1, a], [1, 1]]", "{polygon: {}}", "null"])
def test_a_zone_of_a_text_that_is_being_written_is_told_as_none(zone: str) -> None:
    with pytest.raises(ConfigError, match=r"^edge\.yaml: expected corners \[\[x, y\], \.\.\.\] of the zone porch, found "):
        zones(TEXT.replace("porch: [[0, 0], [1, 0], [1, 0.5]]", f"porch: {zone}"))


@pytest.mark.parametrize("stages", ["3", "{}", "text"])
def test_stages_that_are_no_list_have_no_zones(stages: str) -> None:
    with pytest.raises(ConfigError, match="found none of that name"):
        zones(f"stages: {stages}")
