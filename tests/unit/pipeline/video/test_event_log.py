"""The files of a camera's last events."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.video.event_log import EventLog, event_log_of

FRAME: Any = None


def outputs(number: int, state: str = "begin", stream: int = 1) -> dict[str, Any]:
    event = {
        "id": f"{number}-door-1", "state": state, "rule": "enter", "zone": "", "label": "person", "start": 1.0, "end": None,
        "duration": 0.0, "best": None,
    }  # fmt: skip
    return {"tracks": {"stream": stream, "sequence": number, "time": 2.0, "events": [event] if number else []}}


def lines(path: Path) -> list[tuple[str, str]]:
    return [(event["id"], event["state"]) for event in map(json.loads, path.read_text().splitlines())]


def test_each_event_is_a_line_and_one_of_a_stream_that_is_over_ends(tmp_path: Path) -> None:
    with closing(EventLog(tmp_path, "door")) as log:
        log.answered("door", FRAME, outputs(1))
        log.answered("door", FRAME, outputs(0))
        log.answered("door", FRAME, outputs(2, stream=2))
    path = event_log_of(tmp_path, "door")
    assert lines(path) == [("1-door-1", "begin"), ("1-door-1", "end"), ("2-door-1", "begin")]
    assert json.loads(path.read_text().splitlines()[0])["camera"] == "door"
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)


def test_a_file_that_is_full_becomes_the_one_before_and_the_next_source_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.video.event_log._MOST_BYTES", 500)
    for first in (1, 4):
        with closing(EventLog(tmp_path, "door")) as log:
            for number in range(first, first + 3):
                log.answered("door", FRAME, outputs(number))
    path = event_log_of(tmp_path, "door")
    found = lines(path.with_name("door.events.1")) + lines(path)
    assert found == [(f"{number}-door-1", "begin") for number in range(7 - len(found), 7)]
    assert len(found) >= 3
    assert path.stat().st_size <= 500


@pytest.mark.parametrize("tracks", [[], {"stream": 1}, {"stream": 1, "sequence": 1, "time": 1.0, "events": [{"id": 1}]}])
def test_an_output_of_another_form_is_refused(tmp_path: Path, tracks: Any) -> None:
    with closing(EventLog(tmp_path, "door")) as log, pytest.raises(ValueError, match="tracks has no "):
        log.answered("door", FRAME, {"tracks": tracks})
