"""The thread that reads a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from pipeline.config.camera_urls import Kind, Target
from pipeline.graph.plan import CameraPlan
from pipeline.video.reading import Reading
from pipeline.wire.camera import Drop, State
from tests.faults.load import until


def target(url: str, kind: Kind = Kind.SCENE) -> Callable[[], Target]:
    return lambda: Target(kind, url, (url,), "shown")


@contextmanager
def reading(
    plan: CameraPlan,
    where: Callable[[], Target],
    said: list[tuple[str, str]] | None = None,
    pause: threading.Event | None = None,
) -> Iterator[Reading]:
    paused = threading.Event().is_set if pause is None else pause.is_set
    told = [] if said is None else said
    made = Reading(plan, 1, where, lambda level, text: told.append((level, text)), paused)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def take_all(made: Reading) -> list[int]:
    found = []
    while not (made.ended and not len(made.waiting)):
        with made.changed:
            made.changed.wait_for(lambda: made.ended or len(made.waiting), 5)
            while len(made.waiting):
                found.append(made.take().number)
    return found


def test_with_drop_never_the_camera_waits_and_every_frame_comes() -> None:
    with reading(CameraPlan("door", "", drop="never"), target("synthetic:?frames=50")) as made:
        until(lambda: made.waiting.full)
        assert take_all(made) == list(range(1, 51))
        assert made.told().dropped == {}
        assert made.told().state == State.ENDED
        assert made.broken == ""


def test_of_a_live_camera_only_the_newest_frame_waits_and_every_other_one_is_counted() -> None:
    with reading(CameraPlan("door", ""), target("synthetic:?frames=20&fps=1000")) as made:
        until(lambda: made.ended)
        with made.changed:
            assert made.take().number == 20
        assert made.told().dropped == {Drop.OLDER: 19}


def test_frames_above_the_rate_are_counted_and_do_not_wait() -> None:
    with reading(CameraPlan("door", "", drop="never", fps=5.0), target("synthetic:?frames=50&fps=25")) as made:
        assert len(take_all(made)) == 10
        assert made.told().dropped == {Drop.RATE: 40}


def test_a_file_that_cannot_be_read_is_over_and_says_why() -> None:
    plan = CameraPlan("door", "", drop="never")
    with reading(plan, target("/no/such/clip.mp4", Kind.FILE)) as made:
        until(lambda: made.ended)
        assert made.broken == "No such file or directory"
    with reading(plan, target("rtsp://127.0.0.1:9/", Kind.RTSP)) as made:
        until(lambda: made.ended)
        assert "does not wait" in made.broken


def test_a_camera_that_is_away_is_tried_again_and_said_once_for_each_reason() -> None:
    said: list[tuple[str, str]] = []
    tries = []

    def where() -> Target:
        tries.append(1)
        raise KeyError("DOOR_PASSWORD")

    with reading(CameraPlan("door", ""), where, said) as made:
        until(lambda: len(tries) > 2)
        assert made.told().state == State.RECONNECTING
        assert made.told().detail == "the environment variable DOOR_PASSWORD is not set"
    assert said == [
        ("warning", "the environment variable DOOR_PASSWORD is not set; it is connected again as soon as it is there")
    ]


def test_that_a_camera_is_switched_off_and_on_is_no_warning() -> None:
    said: list[tuple[str, str]] = []
    pause = threading.Event()
    with reading(CameraPlan("door", ""), target("synthetic:?fps=20&size=64x48"), said, pause) as made:
        until(lambda: made.told().frames > 0)
        pause.set()
        until(lambda: made.told().state == State.PAUSED)
        pause.clear()
        until(lambda: made.told().state == State.CONNECTED)
    assert said == [("info", text) for text in ("paused", "goes on")]


def test_what_goes_wrong_is_told_without_the_secrets() -> None:
    secret = Target(Kind.SCENE, "synthetic:?hunter2=5", ("hunter2",), "synthetic")
    with reading(CameraPlan("door", ""), lambda: secret) as made:
        until(lambda: made.ended)
        assert made.broken == "a scene's ***: expected size, fps, frames or seed in a scene's url, found ***"


def test_a_camera_that_is_paused_is_not_opened_until_it_may_be() -> None:
    tries, pause = [], threading.Event()
    pause.set()

    def where() -> Target:
        tries.append(1)
        raise KeyError("DOOR_PASSWORD")

    with reading(CameraPlan("door", ""), where, pause=pause) as made:
        until(lambda: made.told().state == State.PAUSED)
        assert not tries
        pause.clear()
        until(lambda: made.told().state == State.RECONNECTING)
        # While it waits to try again, which is for longer each time.
        until(lambda: len(tries) >= 2)
        pause.set()
        until(lambda: made.told().state == State.PAUSED)
        before = len(tries)
        pause.clear()
        until(lambda: len(tries) > before)
        assert made.told().reconnects == 0


def test_a_scene_that_is_paused_stands_still_and_goes_on_where_it_was() -> None:
    pause = threading.Event()
    with reading(CameraPlan("door", ""), target("synthetic:?frames=40&fps=20"), pause=pause) as made:
        until(lambda: made.told().frames > 2)
        pause.set()
        until(lambda: made.told().state == State.PAUSED)
        before = made.told().frames
        time.sleep(0.5)
        assert made.told().frames == before
        pause.clear()
        until(lambda: made.ended)
        assert made.told().frames == 40


def test_a_picture_that_is_looped_comes_no_more_often_than_it_is_wanted(tmp_path: Path) -> None:
    still = tmp_path / "still.jpg"
    Image.new("RGB", (64, 48)).save(still)
    began = time.monotonic()
    with reading(CameraPlan("door", "", loop=True, fps=10.0), target(str(still), Kind.FILE)) as made:
        until(lambda: made.counts.frames >= 4)
        # The fourth comes after three periods, however long this took.
        frames, passed = made.counts.frames, time.monotonic() - began
    assert frames <= 1 + passed * 10
