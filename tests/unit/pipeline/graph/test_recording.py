"""What is recorded of a plan's cameras."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.config.findings import Findings, Locations
from pipeline.config.recording import RecordConfig, SourceRecordConfig
from pipeline.config.sources import SourceConfig
from pipeline.errors import ConfigError
from pipeline.graph.plan import CameraPlan, Edge, Plan
from pipeline.graph.recording import recorded, tells_events
from stages.spec import TensorSpec
from tests.unit.pipeline.scheduler.graphs import make_plan

PLAN = make_plan("chain", slots=3)
STAGE = replace(PLAN.stages[-1], outputs=(TensorSpec.json("tracks", 100),))
TELLS = replace(PLAN, stages=(*PLAN.stages[:-1], STAGE), outputs=(("tracks", Edge(STAGE.name, "tracks")),))


def cameras(*sources: SourceConfig, plan: Plan = TELLS, **record: Any) -> tuple[CameraPlan, ...]:
    findings = Findings(Locations("x.yaml:1:1"))
    plan = replace(plan, cameras=tuple(CameraPlan(source.name, source.url) for source in sources))
    found = recorded(plan, RecordConfig(**record) if record else None, sources, findings)
    findings.refuse()
    return found


def test_a_source_is_recorded_as_the_file_says_and_as_it_says_itself() -> None:
    door, yard, shed = cameras(
        SourceConfig(name="door", url="rtsp://h/"),
        SourceConfig(name="yard", url="rtsp://h/", record=SourceRecordConfig(after_s=1.0, rules=("enter",))),
        SourceConfig(name="shed", url="synthetic", record=False),
        dir="clips", keep="2d", most="1MB", before_s=3.0,
    )  # fmt: skip
    assert shed.record is None
    assert door.record is not None
    assert (door.record.folder, door.record.keep_s, door.record.most_bytes) == ("clips", 172_800, 1_000_000)
    assert (door.record.before_s, door.record.after_s, door.record.rules) == (3.0, 10.0, ())
    assert yard.record is not None
    assert (yard.record.before_s, yard.record.after_s, yard.record.rules) == (3.0, 1.0, ("enter",))


def test_without_record_nothing_is_recorded() -> None:
    assert [camera.record for camera in cameras(SourceConfig(name="door", url="rtsp://h/"))] == [None]


DOOR = SourceConfig(name="door", url="rtsp://h/")


@pytest.mark.parametrize(
    ("sources", "plan", "record", "why"),
    [
        ([SourceConfig(name="a", url="synthetic")], TELLS, {"dir": "x"}, "a scene is drawn"),
        ([DOOR], PLAN, {"dir": "x"}, "an output tracks of dtype json"),
        ([], TELLS, {"dir": "x"}, "there are no sources to record"),
        ([SourceConfig(name="a", url="x.mp4", record=SourceRecordConfig(after_s=1.0))], TELLS, {}, "the file has no record"),
    ],
)
def test_what_cannot_be_recorded_is_found(
    sources: list[SourceConfig], plan: Plan, record: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        cameras(*sources, plan=plan, **record)


def test_only_an_output_of_json_by_that_name_tells_events() -> None:
    assert tells_events(TELLS)
    assert not tells_events(PLAN)
