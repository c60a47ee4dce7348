"""What a source leaves for those that show its camera: documents, events, rates, and who looks."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.video.gallery import (
    Rate,
    Shown,
    ended_events,
    is_watched,
    newest_events,
    read_shown,
    watch,
    write_whole,
)
from pipeline.video.pausing import FOLDER


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"{number}.000-door-1", "start": float(number), "end": None, "state": "begin", **fields}


def test_the_last_events_stand_first_and_each_as_it_was_told_last() -> None:
    known = newest_events([], [event(1), event(3)])
    now = newest_events(known, [event(2), event(1, end=9.0, state="end")])
    assert [(each["start"], each["end"]) for each in now] == [(3.0, None), (2.0, None), (1.0, 9.0)]


def test_the_oldest_events_are_left_out() -> None:
    events = newest_events([], [event(number) for number in range(70)])
    assert [each["start"] for each in events] == [float(number) for number in range(69, 19, -1)]


def test_events_of_a_source_that_was_killed_do_not_go_on_for_ever() -> None:
    before = [event(2), event(1, end=5.0, state="end", reason="gone")]
    open_, over = ended_events(before)
    assert (open_["state"], open_["reason"]) == ("end", "stream")
    assert over == before[1]


def test_a_rate_is_of_the_last_seconds_and_begins_anew_with_its_source() -> None:
    rate = Rate(over_s=5)
    assert rate.value == 0.0
    for second in range(11):
        rate.add(second, second * (30 if second <= 5 else 10) + (0 if second <= 5 else 100))
    assert rate.value == pytest.approx(10.0, abs=1.0)
    rate.add(12, 3)
    assert rate.value == 0.0
    rate.add(13, 8)
    assert rate.value == 5.0


def test_a_document_is_read_as_it_was_written_and_for_this_user_alone(tmp_path: Path) -> None:
    import msgspec

    shown = Shown("door", 5.0, state="connected", dropped={"older": 3}, zones={"porch": [[0, 0], [1, 0], [1, 1]]})
    write_whole(tmp_path / "door.json", msgspec.json.encode(shown))
    assert read_shown(tmp_path / "door.json") == shown
    assert stat.S_IMODE((tmp_path / "door.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["door.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"camera": 3, "written": 0}', b"\xff\xfe"])
def test_what_is_no_document_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "door.json").write_bytes(content)
    assert read_shown(tmp_path / "door.json") is None
    assert read_shown(tmp_path / "yard.json") is None


def test_a_look_is_over_three_seconds_later(tmp_path: Path) -> None:
    assert not is_watched(tmp_path)
    watch(tmp_path)
    now = time.time()
    assert is_watched(tmp_path, now)
    assert not is_watched(tmp_path, now + 3.1)
    os.utime(tmp_path / FOLDER / "watched", (now - 9, now - 9))
    assert not is_watched(tmp_path, now)
    watch(tmp_path)
    assert is_watched(tmp_path)
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700


def test_no_look_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "watched").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        watch(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
