"""The newest frame wins, or the decoder waits."""

from __future__ import annotations

from pipeline.video.frame import Frame
from pipeline.video.scene import Drawn, Scene
from pipeline.video.waiting import Waiting
from pipeline.wire.camera import Drop


def frame(number: int) -> Frame:
    return Frame(number, Drawn(Scene(), number), number, float(number))


def test_the_newest_frame_takes_the_place_of_the_one_that_waits_and_the_reason_is_why_that_one_had_to() -> None:
    waiting = Waiting(never=False)
    assert waiting.first is None
    for number in (1, 2):
        waiting.add(frame(number))
    waiting.because = Drop.NO_SLOT
    waiting.add(frame(3))
    assert not waiting.full
    assert (len(waiting), waiting.take().number) == (1, 3)
    # A slot was there by then: the next one waits for another reason, until it is known.
    waiting.add(frame(4))
    waiting.add(frame(5))
    assert waiting.dropped == {Drop.OLDER: 2, Drop.NO_SLOT: 1}


def test_if_none_may_be_dropped_it_is_full_before_one_is() -> None:
    waiting = Waiting(never=True)
    number = 0
    while not waiting.full:
        number += 1
        waiting.add(frame(number))
    assert number > 1
    assert [waiting.take().number for _ in range(number)] == list(range(1, number + 1))
    assert not waiting.dropped
