"""What the scheduler knows of cameras, over the deaths of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.metrics.buckets import SECONDS
from pipeline.scheduler.cameras import Cameras
from pipeline.wire.camera import CameraCounts, Drop, State
from pipeline.wire.records import Spread

SECOND = 1_000_000_000
ONE = (1, *(0,) * len(SECONDS))


def counts(frames: int, **fields: Any) -> CameraCounts:
    told = CameraCounts("door", State.CONNECTED, "", 2 * SECOND, 3 * SECOND, frames, 4, 3, 1, {Drop.OLDER: 2}, 0, 100)
    return replace(told, **{"ages": (Spread(ONE, 50), Spread((), 0)), **fields})


@dataclass
class Known:
    cameras: Cameras

    @property
    def door(self) -> Any:
        return self.cameras.status(10 * SECOND)[0]


@pytest.fixture
def known() -> Known:
    return Known(Cameras(["door", "yard"], ["detect", "track"]))


def test_of_a_camera_that_was_never_reported_nothing_is_said_but_that_it_has_no_source(known: Known) -> None:
    assert (known.door.state, known.door.state_s, known.door.last_frame_s, known.door.frames) == (State.NO_SOURCE, None, None, 0)
    assert [age.stage for age in known.door.ages] == ["detect", "track"]


def test_the_last_report_is_what_is_known(known: Known) -> None:
    assert known.cameras.report(7, counts(5))
    assert known.cameras.report(7, counts(9))
    door = known.door
    assert (door.state, door.state_s, door.last_frame_s, door.frames, door.dropped) == ("connected", 8.0, 7.0, 9, {"older": 2})
    assert door.ages[0].seconds.sum == pytest.approx(50e-6)
    assert sum(door.ages[0].seconds.buckets) == 1


def test_what_a_client_has_counted_before_it_began_at_zero_again_is_kept(known: Known) -> None:
    known.cameras.report(7, counts(9))
    known.cameras.report(7, counts(2))
    assert (known.door.frames, known.door.sent, known.door.dropped) == (11, 8, {"older": 4})


def test_counts_go_on_over_the_deaths_of_a_source_and_the_last_frame_stays_the_cameras(known: Known) -> None:
    known.cameras.report(7, counts(9))
    known.cameras.client_gone(8, 4 * SECOND)
    assert known.door.state == State.CONNECTED
    known.cameras.client_gone(7, 4 * SECOND)
    assert (known.door.state, known.door.state_s, known.door.last_frame_s, known.door.frames) == (State.NO_SOURCE, 6.0, 7.0, 9)
    known.cameras.report(8, counts(1, last_frame=0, state=State.CONNECTING))
    door = known.door
    assert (door.state, door.frames, door.sent, door.copied, door.dropped) == (State.CONNECTING, 10, 8, 200, {"older": 4})
    assert door.last_frame_s == 7.0
    assert sum(door.ages[0].seconds.buckets) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"camera": "shed"},
        {"state": "fine"},
        {"detail": "x" * 500},
        {"frames": -1},
        {"copied": 1 << 60},
        {"dropped": {"for fun": 1}},
        {"dropped": {Drop.RATE: -1}},
        {"ages": (Spread(ONE, 50),)},
        {"ages": (Spread((1,), 50), Spread((), 0))},
        {"since": -1},
        {"last_frame": -1},
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(known: Known, wrong: dict[str, Any]) -> None:
    known.cameras.report(7, counts(5))
    assert not known.cameras.report(7, replace(counts(9), **wrong))
    assert known.door.frames == 5
