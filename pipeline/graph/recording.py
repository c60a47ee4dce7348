"""Recording: what is recorded of a plan's cameras, checked against what its answers tell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pipeline.config.camera_urls import Kind, kind_of
from pipeline.config.findings import Findings
from pipeline.graph.plan import CameraPlan, Plan, RecordPlan
from shm.handle import JSON

if TYPE_CHECKING:  # with pydantic, which the sources, too, would wait for
    from pipeline.config.recording import RecordConfig, SourceRecordConfig
    from pipeline.config.sources import SourceConfig

__all__ = ["TRACKS", "recorded", "tells_events"]

TRACKS = "tracks"
"""The output of an answer in which stages.video.track, or another stage in its place, tells tracks and events."""

_SCENE = "a scene is drawn, and sends no packets that a clip could be made of: add record: false"


def tells_events(plan: Plan) -> bool:
    """Whether the answers have tracks and events."""
    return any(name == TRACKS and plan.output_spec(edge).dtype == JSON for name, edge in plan.outputs)


def recorded(
    plan: Plan, config: RecordConfig | None, sources: Sequence[SourceConfig], findings: Findings
) -> tuple[CameraPlan, ...]:
    """The plan's cameras, with what is recorded of each.

    Args:
        plan: its cameras are those of `sources`, in their order.
    """
    if config is None:
        for index, source in enumerate(sources):
            if not isinstance(source.record, bool):
                why = "the file has no record, which says where clips go: add it, or leave this out"
                findings.add(("sources", index, "record"), why)
        return plan.cameras
    if not sources:
        findings.add(("record",), "there are no sources to record: add some, or leave this out", at_key=True)
    elif not tells_events(plan):
        found = ", ".join(name for name, _ in plan.outputs)
        why = f"clips are of events, which an output {TRACKS} of dtype json tells (stages.video.track); found {found}"
        findings.add(("record",), why, at_key=True)
    by_name = {source.name: (index, source) for index, source in enumerate(sources)}
    cameras = []
    for camera in plan.cameras:
        index, source = by_name[camera.name]
        if source.record is False:
            cameras.append(camera)
            continue
        if kind_of(source.url) is Kind.SCENE:
            findings.add(("sources", index, "url"), _SCENE)
        cameras.append(replace(camera, record=_plan(config, source.record)))
    return tuple(cameras)


def _plan(config: RecordConfig, source: bool | SourceRecordConfig) -> RecordPlan:
    said = {} if isinstance(source, bool) else source.model_dump(exclude_none=True)
    of_camera = {**config.model_dump(include={"before_s", "after_s", "longest_s", "rules"}), **said}
    return RecordPlan(
        folder=config.dir,
        keep_s=config.keep,
        most_bytes=config.most,
        ring_bytes=config.memory,
        **{**of_camera, "rules": tuple(of_camera["rules"] or ())},
    )
