"""What the command tells of its frames: a line at its end, and a file that is whole at any time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.detecting.desk import GONE, LATE, OK
from pipeline.detecting.service import _summary, _write


def test_the_last_line_says_what_has_become_of_the_frames() -> None:
    assert _summary(Counter({OK: 0, LATE: 0, GONE: 0})) == "0 frames: 0 answered, 0 late"
    found = Counter({OK: 5, LATE: 2, GONE: 0, "InvalidRequest": 1, "BadInput": 3})
    assert _summary(found) == "11 frames: 5 answered, 2 late; 3 BadInput, 1 InvalidRequest"


def test_the_file_of_metrics_is_replaced_and_a_failure_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "detector.prom"
    for count in (1, 2):
        _write(path, "finder", Counter({OK: count}))
        assert f'trtlab_detector_frames_total{{outcome="OK",pipeline="finder"}} {count}.0' in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["detector.prom"]
    _write(tmp_path / "none" / "detector.prom", "finder", Counter())
    assert "warning: --metrics" in capsys.readouterr().err
