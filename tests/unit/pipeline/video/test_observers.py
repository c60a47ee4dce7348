"""What is told of answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import OutputMissing, StageFailed
from pipeline.video.frame import Frame
from pipeline.video.observers import JsonLines, Observers
from pipeline.video.scene import Drawn, Scene
from pipeline.video.tracks import Told, Tracks
from tests.unit.pipeline.video.test_tracks import DOCUMENT, EVENT

FRAME = Frame(17, Drawn(Scene(), 16), 1, 0.64)


def test_each_answer_and_each_failure_is_a_line_of_json(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lines = JsonLines(fd)
    lines.answered("door", FRAME, {'a "name"': {"b": [1, float("nan")]}, "scores": np.float32([0.5, 1])}, Told())
    lines.failed("door", FRAME, StageFailed("stage look: it fails"))
    lines.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    first, second = (json.loads(line) for line in (tmp_path / "out").read_text().splitlines())
    assert (first["camera"], first["frame"], first["outputs"]) == ("door", 17, {'a "name"': {"b": [1, None]}, "scores": [0.5, 1.0]})
    assert first["age_ms"] > 0
    assert first["time"].endswith("+00:00")
    assert second["error"] == {"code": "StageFailed", "message": "stage look: it fails"}


class Heard:
    """An observer that keeps what it is told, or fails each time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.answers: list[Told] = []
        self.others: list[Any] = []

    def answered(self, camera: str, frame: Frame, outputs: Any, told: Told) -> None:
        assert (camera, frame) == ("door", FRAME)
        self.answers.append(told)
        self._end()

    def failed(self, camera: str, frame: Frame, error: Any) -> None:
        self.others.append(error)
        self._end()

    def reported(self, counts: Any) -> None:
        self.others.append(counts)
        self._end()

    def close(self) -> None:
        pass

    def _end(self) -> None:
        if self.error is not None:
            raise self.error


def observers(*each: Heard) -> Observers:
    return Observers("door", each, Tracks("tracks"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no"), OutputMissing("no such output")])
def test_one_that_fails_is_told_of_and_keeps_no_other_from_anything(error: Exception) -> None:
    first, bad, last = Heard(), Heard(error), Heard()
    of_door = observers(first, bad, last)
    failed, counts = StageFailed("it broke"), Any
    told: list[tuple[Callable[..., list[str]], tuple[Any, ...], str]] = [
        (of_door.answered, (FRAME, {"tracks": DOCUMENT}), "an answer"),
        (of_door.failed, (FRAME, failed), "a frame without an answer"),
        (of_door.reported, (counts,), "the camera's state"),
    ]
    for tell, values, what in told:
        assert tell(*values) == [f"{what} cannot be shown: {error}"]
    assert [len(one.answers) for one in (first, bad, last)] == [1, 1, 1]
    assert first.others == last.others == [failed, counts]


def test_each_answer_is_read_once_and_all_are_told_the_same_events() -> None:
    first, last = Heard(), Heard()
    of_door = observers(first, last)
    for stream in (1, 2):
        of_door.answered(FRAME, {"tracks": {**DOCUMENT, "stream": stream, "events": [EVENT] if stream == 1 else []}})
    assert all(one is other for one, other in zip(first.answers, last.answers))
    assert [[event["state"] for event in told.events] for told in last.answers] == [["begin"], ["end"]]


def test_a_document_of_another_form_is_complained_of_once_for_all_and_they_are_told_that_it_is_wrong() -> None:
    first, last = Heard(), Heard()
    (text,) = observers(first, last).answered(FRAME, {"tracks": [1, 2]})
    assert text.startswith("an answer cannot be shown: the output tracks has no events")
    assert [(told.document, bool(told.wrong)) for told in (*first.answers, *last.answers)] == [(None, True)] * 2
