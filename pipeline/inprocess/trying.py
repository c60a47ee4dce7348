"""Trying: the process in which `pipeline check` has the stages look at drawn frames of one camera, to time them.

`pipeline.prepare.trying` starts it, so that the code of stages runs and crashes here. It reads one JSON object from
stdin, and answers with one line of JSON.

    stdin    {"parent": 4711, "config": "edge.yaml", "assignments": [], "camera": "door", "width": 640, "height": 360}
    stdout   {"moving": LOOK, "still": LOOK}       LOOK: {"cpu_s": 0.031, "stages": {"detect": 0.0212, ...}}
             {"error": "..."}

Of a frame of each kind: the CPU time of this process, the median; and what each stage took at best, so that what else
the machine does counts little. Stages that were skipped are missing. Frames in which something moves come first, then
the same one again and again.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.config.loader import load_config
from pipeline.errors import PipelineError, request_error
from pipeline.inprocess.pipeline import LocalPipeline
from pipeline.inprocess.running import local_pipeline
from pipeline.processes.child import die_with_parent
from pipeline.video.scene import Drawn, Scene
from pipeline.wire.messages import OK, SlotRef, Submission
from pipeline.wire.traces import traces_in
from shm.errors import SegmentError
from shm.handle import TensorHandle
from stages.errors import StageError

__all__ = ["main", "tried"]

_WARM_UP = 2
"""Frames that are not timed: what is loaded late is loaded then."""
_MOST = 30
_MOVING_S, _STILL_S = 2.0, 1.0
"""How long frames of each kind are looked at, at most."""
_MOVES_S = 0.2
_STAYS_S = 1.0
"""From one frame to the next by their own times; a scene that has stood still for some of them is still."""
_BEFORE_STILL = 6


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    die_with_parent(request["parent"])
    # What stages print, also from C, goes to stderr: stdout is the answer's alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            loaded = load_config(Path(request["config"]), request["assignments"])
            with local_pipeline(loaded, lambda stage, error: None) as pipeline:
                found = tried(pipeline, request["camera"], request["width"], request["height"])
        except (PipelineError, SegmentError, StageError) as error:
            found = {"error": str(error)}
        answer.write(json.dumps(found) + "\n")


def tried(pipeline: LocalPipeline, camera: str, width: int, height: int) -> dict[str, Any]:
    """Look at frames, and say how long it took.

    Raises:
        RequestError: a frame has no answer.
    """
    frames = _Frames(pipeline, camera, width, height)
    moving = list(frames.look(_MOVING_S, _MOST, moves=True))
    for _ in frames.look(math.inf, _BEFORE_STILL, moves=False):
        pass
    still = list(frames.look(_STILL_S, _MOST, moves=False))
    return {"moving": _cost(moving[_WARM_UP:] or moving), "still": _cost(still)}


_Look = tuple[float, dict[str, float]]


class _Frames:
    """The frames of one camera: one after the other, of one stream."""

    def __init__(self, pipeline: LocalPipeline, camera: str, width: int, height: int) -> None:
        self._pipeline = pipeline
        self._camera = camera
        self._scene = Scene.of(f"synthetic:?fps=5&size={width}x{height}")
        self._tag = self._drawn = 0
        self._taken = time.time()

    def look(self, seconds: float, most: int, *, moves: bool) -> Iterator[_Look]:
        """The CPU seconds and the seconds of each stage, of so many frames; fewer if the time is over, at least one."""
        end = time.monotonic() + seconds
        for _ in range(most):
            self._drawn += moves
            self._taken += _MOVES_S if moves else _STAYS_S
            yield self._one()
            if time.monotonic() >= end:
                return

    def _one(self) -> _Look:
        width, height = self._scene.size
        pipeline = self._pipeline
        slot = pipeline.slot_for(width * height * 3)
        assert slot is not None, "the plan's slots hold a frame"
        handle = TensorHandle(*slot, 0, "uint8", (height, width, 3))
        Drawn(self._scene, self._drawn).write(pipeline.table.view(handle, writable=True))
        self._tag += 1
        name = f"{self._camera}@{self._taken:.3f}"
        began = time.process_time()
        answer = pipeline.run(Submission(self._tag, slot, (handle,), 0, 0, name, stream=1, sequence=self._tag))
        took = time.process_time() - began
        if answer.code != OK:
            raise request_error(answer.code, answer.message, answer.traceback, name)
        given = [handle for handle in answer.outputs if isinstance(handle, TensorHandle)]
        pipeline.release(list({SlotRef(*handle[:3]) for handle in given}))
        stages = pipeline.plan.stages
        return took, {stages[trace.stage].name: trace.compute_us / 1e6 for trace in traces_in(answer.trace)}


def _cost(looks: list[_Look]) -> dict[str, Any]:
    names = {name for _, stages in looks for name in stages}
    # A stage that looked at few of them, such as a detector that looks now and then, is taken to be skipped.
    times = {name: [stages[name] for _, stages in looks if name in stages] for name in names}
    often = {name: min(found) for name, found in times.items() if 2 * len(found) > len(looks)}
    return {"cpu_s": median([cpu for cpu, _ in looks]), "stages": often}


if __name__ == "__main__":
    main()
