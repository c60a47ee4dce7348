"""The stage that follows a camera's things, and its zones, as a plan has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.graph.plan import Edge
from pipeline.video.tracking import output_in, tracking_of
from stages.spec import TensorSpec

NEAR, GATE = [[0, 0.5], [1, 0.5], [1, 1]], [[0, 0], [1, 0], [1, 1]]


def plan(use: str = "stages.video.track:Track", producer: str = "follow", **options: Any) -> Any:
    stage = SimpleNamespace(name="follow", use=use, options=options)
    return SimpleNamespace(stages=(stage,), outputs=(("seen", Edge(producer, "tracks")),))


def test_a_camera_has_its_own_zones_or_those_of_default() -> None:
    found = plan(default={"zones": {"near": NEAR}}, cameras={"door": {"zones": {"gate": {"polygon": GATE, "labels": ["car"]}}}, "yard": {"labels": []}})
    assert tracking_of(found, "door") == ("follow", {"gate": GATE})
    assert tracking_of(found, "yard") == tracking_of(found, "shed") == ("follow", {"near": NEAR})


def test_a_camera_may_have_no_zones_at_all() -> None:
    assert tracking_of(plan(cameras={"door": {"zones": {}}}, default={"zones": {"near": NEAR}}), "door") == ("follow", {})
    assert tracking_of(plan(producer="other", cameras=None, default=None), "door") == ("follow", {})


def test_a_pipeline_without_that_stage_has_none() -> None:
    assert tracking_of(plan(use="./mine.py:Track"), "door") is None
    assert output_in(plan(use="./mine.py:Track")) == ""


def test_the_output_is_that_of_the_stage_or_the_one_called_tracks_whichever_stage_makes_it() -> None:
    assert output_in(plan()) == "seen"
    # The stage is there, and the pipeline does not give what it tells.
    assert output_in(plan(producer="other")) == ""
    found, specs = plan(), {"mine": TensorSpec.json("mine", 256), "mask": TensorSpec("mask", "uint8", (3,))}
    found.output_spec = lambda edge: specs[edge.tensor]
    found.outputs = (*found.outputs, ("tracks", Edge("own", "mine")))
    assert output_in(found) == "tracks"
    # An array tells no events, whatever it is called.
    found.outputs = (*found.outputs[:1], ("tracks", Edge("own", "mask")))
    assert output_in(found) == "seen"
