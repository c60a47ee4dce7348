"""What is told of answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StageFailed
from pipeline.video.frame import Frame
from pipeline.video.observers import JsonLines
from pipeline.video.scene import Drawn, Scene

FRAME = Frame(17, Drawn(Scene(), 16), 1, 0.64)


def test_each_answer_and_each_failure_is_a_line_of_json(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lines = JsonLines(fd)
    lines.answered("door", FRAME, {'a "name"': {"b": [1, float("nan")]}, "scores": np.float32([0.5, 1])})
    lines.failed("door", FRAME, StageFailed("stage look: it fails"))
    lines.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    first, second = (json.loads(line) for line in (tmp_path / "out").read_text().splitlines())
    assert (first["camera"], first["frame"], first["outputs"]) == ("door", 17, {'a "name"': {"b": [1, None]}, "scores": [0.5, 1.0]})
    assert first["age_ms"] > 0
    assert first["time"].endswith("+00:00")
    assert second["error"] == {"code": "StageFailed", "message": "stage look: it fails"}
