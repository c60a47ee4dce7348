"""The stage that follows a camera's things, and its zones, as a plan has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.graph.plan import Edge
from pipeline.video.tracking import tracking_of

NEAR, GATE = [[0, 0.5], [1, 0.5], [1, 1]], [[0, 0], [1, 0], [1, 1]]


def plan(use: str = "stages.video.track:Track", producer: str = "follow", **options: Any) -> Any:
    stage = SimpleNamespace(name="follow", use=use, options=options)
    return SimpleNamespace(stages=(stage,), outputs=(("seen", Edge(producer, "tracks")),))


def test_a_camera_has_its_own_zones_or_those_of_default() -> None:
    found = plan(default={"zones": {"near": NEAR}}, cameras={"door": {"zones": {"gate": {"polygon": GATE, "labels": ["car"]}}}, "yard": {"labels": []}})
    assert tracking_of(found, "door") == ("follow", "seen", {"gate": GATE})
    assert tracking_of(found, "yard") == tracking_of(found, "shed") == ("follow", "seen", {"near": NEAR})


def test_no_zones_at_all_and_an_output_that_the_pipeline_does_not_give() -> None:
    assert tracking_of(plan(cameras={"door": {"zones": {}}}, default={"zones": {"near": NEAR}}), "door") == ("follow", "seen", {})
    assert tracking_of(plan(producer="other", cameras=None, default=None), "door") == ("follow", "", {})


def test_a_pipeline_without_that_stage_has_none() -> None:
    assert tracking_of(plan(use="./mine.py:Track"), "door") is None


def test_a_stage_of_ones_own_is_known_by_its_output() -> None:
    found = plan(use="./mine.py:Track")
    found.outputs = (("tracks", Edge("follow", "mine")),)
    assert tracking_of(found, "door") == ("", "tracks", {})
