"""Where a picture lies in its slot."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.video.frame import MediaClock, Pixels, Size, fit, place, slot_size

MOST = {"H": 480, "W": 640}


class White:
    def __init__(self, *size: int) -> None:
        self.size = Size(*size)

    def write(self, pixels: Pixels) -> int:
        pixels[...] = 255
        return pixels.nbytes


@pytest.mark.parametrize(
    ("shape", "wanted", "own", "slot"),
    [
        ((48, 64, 3), None, (1920, 1080), (64, 48)),
        ((48, 64, 3), (32, 24), (1920, 1080), (64, 48)),
        (("H", "W", 3), None, (320, 200), (320, 200)),
        (("H", "W", 3), None, (1920, 1080), (640, 360)),
        (("H", "W", 3), None, (1000, 4000), (120, 480)),
        (("H", "W", 3), (160, 90), (1920, 1080), (160, 90)),
        (("H", 64, 3), None, (128, 96), (64, 48)),
        ((48, "W", 3), None, (128, 96), (64, 48)),
        ((48, "W", 3), None, (10000, 1), (640, 48)),
    ],
)
def test_the_inputs_own_extents_count_then_what_is_wanted_then_the_cameras(
    shape: tuple[int | str, ...], wanted: tuple[int, int] | None, own: tuple[int, int], slot: tuple[int, int]
) -> None:
    assert slot_size(shape, MOST, Size(*wanted) if wanted else None, Size(*own)) == slot


@pytest.mark.parametrize(
    ("own", "slot", "inner"),
    [((1920, 1080), (640, 640), (640, 360)), ((10, 10), (64, 48), (48, 48)), ((64, 48), (64, 48), (64, 48)), ((5000, 1), (64, 48), (64, 1))],
)
def test_a_picture_keeps_its_proportions(own: tuple[int, int], slot: tuple[int, int], inner: tuple[int, int]) -> None:
    assert fit(Size(*own), Size(*slot)) == inner


@pytest.mark.parametrize("size", [(64, 24), (32, 48)])
def test_beside_the_picture_nothing_is_left_of_what_the_slot_had(size: tuple[int, int]) -> None:
    pixels = np.full((48, 64, 3), 7, np.uint8)
    copied = place(White(*size), pixels)
    width, height = size
    assert (pixels[:height, :width] == 255).all()
    assert int(pixels.sum()) == 255 * width * height * 3
    assert copied == width * height * 3


def test_frames_of_a_film_are_as_far_apart_as_they_were_taken_and_one_that_begins_again_does_not_go_back() -> None:
    clock = MediaClock()
    # Read within half a second.
    times = [clock.time_of(at, 1000 + number / 10) for number, at in enumerate([10.0, 10.5, 12.0, 0.0, 0.5], 1)]
    assert times == pytest.approx([1000.1, 1000.6, 1002.1, 1002.1, 1002.6])


def test_packets_have_the_times_of_their_frames_in_whatever_order_they_come() -> None:
    clock = MediaClock()
    clock.begin()
    packets = [clock.time_of_packet(at, 1000.0 + at) for at in (-0.08, 0.0, 0.12, 0.04)]
    assert packets == pytest.approx([999.92, 1000.0, 1000.12, 1000.04])
    assert [clock.time_of(at, 1005.0) for at in (0.0, 0.04, 0.08)] == pytest.approx([1000.0, 1000.04, 1000.08])
    # The first packet of the film's second showing comes before a frame of it has.
    clock.begin()
    assert clock.time_of_packet(0.0, 1000.01) == pytest.approx(1000.08)
    assert clock.time_of(0.04, 1000.02) == pytest.approx(1000.12)
