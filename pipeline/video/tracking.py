"""Tracking: what of a pipeline follows the things of cameras, and which output tells of them, by its plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.graph.plan import Plan, StagePlan
from pipeline.graph.recording import TRACKS, tells_events
from pipeline.video.gallery import Zones

__all__ = ["TRACK", "Tracking", "output_in", "output_of", "tracking_of"]

TRACK = "stages.video.track:Track"
"""The `use` of the stage whose options are known here."""


class Tracking(NamedTuple):
    """That stage, as far as one camera goes."""

    stage: str
    zones: Zones


def output_in(plan: Plan) -> str:
    """The pipeline's output that tells tracks and events; empty: of each answer the one that has their fields does.

    One called `tracks` comes first, whichever stage makes it: that may know more than Track before it.
    """
    if tells_events(plan):
        return TRACKS
    followed = (output_of(plan, stage) for stage in plan.stages if stage.use == TRACK)
    return next((name for name in followed if name is not None), "")


def output_of(plan: Plan, stage: StagePlan) -> str | None:
    """The pipeline's output that has the documents of that stage; None: none has."""
    return next((name for name, edge in plan.outputs if (edge.producer, edge.tensor) == (stage.name, TRACKS)), None)


def tracking_of(plan: Plan, camera: str) -> Tracking | None:
    """The stage that follows this camera's things, and the zones that it has for it; None: there is none, or
    another one than `stages.video.track:Track`, whose zones are not known."""
    for stage in plan.stages:
        if stage.use == TRACK:
            own = (stage.options.get("cameras") or {}).get(camera) or {}
            said = own if "zones" in own else stage.options.get("default") or {}
            zones = {
                str(name): [list(corner) for corner in (zone["polygon"] if isinstance(zone, Mapping) else zone)]
                for name, zone in (said.get("zones") or {}).items()
            }
            return Tracking(stage.name, zones)
    return None
