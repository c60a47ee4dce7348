"""The files of a camera's last events."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.video.event_log import EventLog, event_log_of
from pipeline.video.tracks import Told

FRAME: Any = None


def told(number: int, *states: str) -> Told:
    return Told({"time": 2.0, "events": []}, [{"id": f"{number}-door-1", "state": state} for state in states])


def lines(path: Path) -> list[tuple[str, str]]:
    return [(event["id"], event["state"]) for event in map(json.loads, path.read_text().splitlines())]


def test_each_event_is_a_line_and_an_answer_without_one_is_none(tmp_path: Path) -> None:
    with closing(EventLog(tmp_path, "door")) as log:
        log.answered("door", FRAME, {}, told(1, "begin"))
        log.answered("door", FRAME, {}, told(1))
        log.answered("door", FRAME, {}, Told())
        log.answered("door", FRAME, {}, told(1, "update", "end"))
    path = event_log_of(tmp_path, "door")
    assert lines(path) == [("1-door-1", "begin"), ("1-door-1", "update"), ("1-door-1", "end")]
    assert json.loads(path.read_text().splitlines()[0]) == {"camera": "door", "time": 2.0, "id": "1-door-1", "state": "begin"}
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)


def test_a_file_that_is_full_becomes_the_one_before_and_the_next_source_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.video.event_log._MOST_BYTES", 200)
    for first in (1, 4):
        with closing(EventLog(tmp_path, "door")) as log:
            for number in range(first, first + 3):
                log.answered("door", FRAME, {}, told(number, "begin"))
    path = event_log_of(tmp_path, "door")
    found = lines(path.with_name("door.events.1")) + lines(path)
    assert found == [(f"{number}-door-1", "begin") for number in range(7 - len(found), 7)]
    assert len(found) >= 3
    assert path.stat().st_size <= 200
