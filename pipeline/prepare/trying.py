"""Trying: how long the stages of a pipeline with cameras take for a frame on this machine, and what follows from it.

A process of its own runs them (`pipeline.inprocess.trying`), for a few seconds; what it finds is put together here.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.camera_urls import Kind, kind_of
from pipeline.errors import StartError
from pipeline.graph.plan import CameraPlan, Plan
from pipeline.interpreter import python_command
from pipeline.video.frame import Size, slot_size
from pipeline.video.scene import Scene

__all__ = ["Look", "Tried", "frames_wanted", "most_frames", "try_stages"]

_TIMEOUT_S = 30.0
"""For loading models too. An engine that has to be built for a GPU takes longer, and is not waited for."""
_OWN = Size(1920, 1080)
"""Of a camera that is not asked: what is larger than the pipeline's input is made smaller."""
_FPS = 25.0
"""Of a camera that is not asked, if the config does not say how many are wanted."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one frame takes."""

    cpu_s: float
    """CPU time of all stages together."""
    stages: Mapping[str, float]
    """Seconds of each stage that looked at it, one frame in a batch."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found."""

    size: Size
    moving: Look
    """Of a frame in which something moves."""
    still: Look
    """Of one in which nothing does."""

    @property
    def is_gated(self) -> bool:
        """Whether stages are skipped while nothing moves."""
        return set(self.still.stages) < set(self.moving.stages)


def try_stages(plan: Plan, config: Path, assignments: Iterable[str] = (), timeout_s: float = _TIMEOUT_S) -> Tried:
    """Have the stages look at drawn frames of the plan's first camera, for a few seconds.

    Raises:
        StartError: they did not; the message says why.
    """
    camera = plan.cameras[0]
    size = _size_of(camera, plan)
    request = {
        "parent": os.getpid(), "config": str(config), "assignments": list(assignments),
        "camera": camera.name, "width": size.width, "height": size.height,
    }  # fmt: skip
    command = python_command("pipeline.inprocess.trying", folders=[plan.base_dir])
    try:
        child = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise StartError(f"they were not ready and done within {timeout_s:g} s") from None
    try:
        found: dict[str, Any] = json.loads(child.stdout)
    except ValueError:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StartError(f"the process that tried them ended with exit code {child.returncode}: {last}") from None
    if "error" in found:
        raise StartError(found["error"])
    return Tried(size, Look(**found["moving"]), Look(**found["still"]))


def frames_wanted(cameras: Iterable[CameraPlan]) -> float:
    """Frames each second of all cameras, at most."""
    return sum(camera.fps or _fps_of(camera) for camera in cameras)


def most_frames(plan: Plan, look: Look) -> tuple[float, str]:
    """How many frames each second the workers manage, and which process allows no more: its stages.

    Stages that share a process take turns in it. Batches are not counted, which on a GPU make it more; nor that several
    processes may want the same CPU.
    """
    rates = {}
    for stages in plan.processes:
        seconds = sum(look.stages.get(plan.stages[at].name, 0.0) for at in stages)
        if seconds > 0:
            title = "+".join(plan.stages[at].name for at in stages)
            rates[title] = len(plan.stages[stages[0]].workers) / seconds
    slowest = min(rates, key=rates.__getitem__, default="")
    return (rates[slowest] if slowest else float("inf")), slowest


def _fps_of(camera: CameraPlan) -> float:
    return Scene.of(camera.url).fps if kind_of(camera.url) is Kind.SCENE else _FPS


def _size_of(camera: CameraPlan, plan: Plan) -> Size:
    spec = plan.inputs[0]
    own = Scene.of(camera.url).size if kind_of(camera.url) is Kind.SCENE else _OWN
    return slot_size(spec.shape, spec.max, Size(*camera.size) if camera.size else None, own)
