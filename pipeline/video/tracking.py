"""Tracking: the stage of a pipeline that follows the things of cameras, as its plan has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.graph.plan import Plan
from pipeline.graph.recording import TRACKS
from pipeline.video.gallery import Zones

__all__ = ["Tracking", "tracking_of"]

_TRACK = "stages.video.track:Track"


class Tracking(NamedTuple):
    """That stage, as far as one camera goes."""

    stage: str
    """Empty: it is another one than `stages.video.track:Track`, whose zones are not known."""
    output: str
    """The pipeline's output that has its documents; empty: none has."""
    zones: Zones


def tracking_of(plan: Plan, camera: str) -> Tracking | None:
    """The stage that follows this camera's things, and the zones that it has for it; None: there is none."""
    for stage in plan.stages:
        if stage.use == _TRACK:
            outputs = [name for name, edge in plan.outputs if (edge.producer, edge.tensor) == (stage.name, "tracks")]
            own = (stage.options.get("cameras") or {}).get(camera) or {}
            said = own if "zones" in own else stage.options.get("default") or {}
            zones = {
                str(name): [list(corner) for corner in (zone["polygon"] if isinstance(zone, Mapping) else zone)]
                for name, zone in (said.get("zones") or {}).items()
            }
            return Tracking(stage.name, outputs[0] if outputs else "", zones)
    return Tracking("", TRACKS, {}) if TRACKS in dict(plan.outputs) else None
