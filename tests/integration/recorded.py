"""Cameras that are recorded, for tests: a stage that tells an event for some of the frames, as stages.video.track would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.cameras import config_of

STAGES = '''
from stages.spec import TensorSpec


class Tell:
    """An event begins with every `every`th frame of a stream, and lasts for `lasts` frames; its first frame shows it best."""

    inputs = (TensorSpec("frame", "uint8", (48, 64, 3)),)
    outputs = (TensorSpec.json("tracks", 2048),)

    def __init__(self, every=20, lasts=10, first=5):
        self._every, self._lasts, self._first = every, lasts, first

    def process(self, batch):
        for row, request in enumerate(batch.requests):
            camera, _, time = request.name.partition("@")
            time, at = float(time), request.sequence - self._first
            events = []
            if at >= 0 and at % self._every in (0, self._lasts):
                began = at % self._every == 0
                number, start = at // self._every + 1, time if began else time - 0.4
                events.append({
                    "id": f"{request.stream}.{number}-{camera}-1", "state": "begin" if began else "end",
                    "rule": "enter", "zone": "porch", "label": "person", "start": start,
                    "end": None if began else time, "duration": time - start,
                    "best": {"sequence": request.sequence, "time": time} if began else None,
                })
            batch.write(row, "tracks", {
                "camera": camera, "stream": request.stream, "sequence": request.sequence, "time": time, "events": events,
            })
'''


def recorded(folder: Path, sources: list[dict[str, Any]], *, told: dict[str, int] | None = None, **record: Any) -> Path:
    """A pipeline that records these cameras into `clips`.

    Args:
        told: the options of the stage.
    """
    (folder / "telling_stages.py").write_text(STAGES)
    stages = [{"name": "track", "use": "./telling_stages.py:Tell", "with": told or {}}]
    return config_of(folder, sources, stages=stages, record={"dir": "clips", **record})
