"""What of a camera is told of: by the options of Track, or as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.graph.plan import Edge
from pipeline.mqtt.watched import Place, Watched, watched_in
from stages.errors import BadOption
from tests.unit.pipeline.supervisor.test_supervision import PLAN

PORCH = [[0, 0], [1, 0], [1, 1], [0, 1]]
KINDS = ["person", "car", "traffic light"]


def watched(options: Mapping[str, Any], camera: str = "door", *, use: str = "stages.video.track:Track") -> Watched:
    stage = replace(PLAN.stages[0], name="track", use=use, options={"labels": KINDS, **options})
    plan = replace(PLAN, stages=(stage,), outputs=(("found", Edge("track", "tracks")),), base_dir="/base")

    def labels(name: str, base_dir: Path) -> list[str]:
        assert (name, base_dir) == ("coco.txt", Path("/base"))
        return [f"kind {number}" for number in range(80)] + KINDS

    return watched_in(plan, camera, labels)


def answer(*things: tuple[str, list[str]]) -> dict[str, Any]:
    return {"tracks": [{"label": label, "zones": zones} for label, zones in things]}


def test_the_kinds_and_zones_of_the_options_are_known_before_anything_is_seen() -> None:
    zones = {"porch": PORCH, "road": {"polygon": PORCH, "labels": ["car"]}}
    rules = [{"rule": "enter", "zone": "porch"}, {"rule": "count", "over": 1}, {"rule": "enter", "zone": "road"}]
    found = watched({"default": {"labels": ["car", "person"], "zones": zones, "rules": rules}})
    # In the order of the labels; of a zone only the kinds that count there.
    assert found.places == (
        Place("", "person"), Place("porch", "person"), Place("", "car"), Place("porch", "car"), Place("road", "car"),
    )  # fmt: skip
    assert found.rules == ("object", "enter", "count")
    assert not found.see(answer(("cat", ["porch"])))
    assert not found.recall([Place("", "cat")])
    assert found.counts(answer(("car", ["porch", "road"]), ("car", []), ("cat", []))) == {
        Place("", "person"): 0, Place("porch", "person"): 0,
        Place("", "car"): 2, Place("porch", "car"): 1, Place("road", "car"): 1,
    }  # fmt: skip


def test_what_is_said_of_a_camera_holds_for_that_one() -> None:
    options = {"default": {"labels": ["person"]}, "cameras": {"door": {"labels": ["car"]}}}
    assert watched(options).places == (Place("", "car"),)
    assert watched(options, "yard").places == (Place("", "person"),)


def test_of_a_detector_of_few_kinds_all_are_known_and_of_many_those_that_come() -> None:
    assert [place.label for place in watched({}).places] == KINDS
    found = watched({"labels": "coco.txt", "default": {"zones": {"porch": PORCH}}})
    assert found.places == ()
    assert found.see(answer(("person", [])))
    # In each zone where it may be, though it is in none yet.
    assert found.places == (Place("", "person"), Place("porch", "person"))
    assert not found.see(answer(("person", ["porch"])))
    assert found.recall([Place("", "car")])
    assert Place("porch", "car") in found.places


def test_of_another_stage_zones_come_as_well() -> None:
    found = watched({}, use="./mine.py:Mine")
    assert found.places == ()
    assert found.see(answer(("person", ["porch"])))
    assert found.recall([Place("road", "car")])
    assert found.places == (Place("", "person"), Place("porch", "person"), Place("", "car"), Place("road", "car"))


def test_kinds_that_come_are_bounded() -> None:
    found = Watched()
    found.see(answer(*[(f"kind {number}", [f"zone {number % 50}" for _ in range(3)]) for number in range(500)]))
    assert len({place.label for place in found.places}) == 64
    found.see(answer(*[("kind 1", [f"zone {number}" for number in range(5000)])]))
    assert len(found.places) <= 64 * 8


def test_options_that_track_refuses_are_refused() -> None:
    with pytest.raises(BadOption, match="no label 'cow'"):
        watched({"default": {"labels": ["cow"]}})
