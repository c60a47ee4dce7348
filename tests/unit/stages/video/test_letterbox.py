from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stages.errors import BadInput, BadOption
from stages.testing import batch_of, run
from stages.video.letterbox import Letterbox


def frame(height: int, width: int, colour: Sequence[int] = (10, 20, 30)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_a_frame_fills_the_square_from_the_upper_left_and_the_rest_is_black() -> None:
    batch = run(Letterbox(size=40), image=[frame(100, 200)])
    square = batch.result(0, "image")
    assert square.shape == (40, 40, 3)
    assert (square[:20] == (10, 20, 30)).all()
    assert (square[20:] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(200, 100), (100, 200)])
def test_what_another_request_left_in_the_slot_is_overwritten(height: int, width: int) -> None:
    stage = Letterbox(size=40)
    batch = batch_of(stage, image=[frame(height, width)])
    batch.out(0, "image")[...] = 255
    batch.take(stage.process(batch))
    square = batch.result(0, "image")
    if width > height:
        square = square.transpose(1, 0, 2)
    assert (square[:, :20] == (10, 20, 30)).all()
    assert (square[:, 20:] == 0).all()


def test_frames_of_different_sizes_share_a_batch() -> None:
    batch = run(Letterbox(size=40), image=[frame(100, 200), frame(30, 30)])
    assert batch.result(0, "place").tolist() == [0, 0, 2, 1]
    assert batch.result(1, "place").tolist() == [0, 0, 1, 1]


def test_a_frame_of_the_size_of_the_square_is_not_changed() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    batch = run(Letterbox(size=40), image=[pixels])
    assert (batch.result(0, "image") == pixels).all()


@pytest.mark.parametrize(("height", "width"), [(100, 200), (333, 77), (1, 200), (1080, 1920)])
def test_place_leads_from_the_square_to_the_frame(height: int, width: int) -> None:
    place = run(Letterbox(size=40), image=[frame(height, width)]).result(0, "place")
    scale = 40 / max(height, width)
    # The lower right corner of the frame, in the square, is (1, 1) of the frame; but for the rounding to whole pixels.
    down, across = max(1, round(height * scale)) / 40, max(1, round(width * scale)) / 40
    assert place[:2].tolist() == [0, 0]
    assert down * place[2] == pytest.approx(1)
    assert across * place[3] == pytest.approx(1)


def test_of_a_camera_with_a_region_only_that_is_looked_at() -> None:
    picture = frame(100, 200)
    picture[50:, 100:] = (200, 0, 0)
    stage = Letterbox(size=40, regions={"door": [0.5, 0.5, 1, 1]})
    batch = run(stage, ["door", "yard", "door@5.0"], image=[picture] * 3)
    assert (batch.result(0, "image")[:20] == (200, 0, 0)).all()
    assert batch.result(0, "place").tolist() == [0.5, 0.5, 1, 0.5]
    assert batch.result(1, "place").tolist() == [0, 0, 2, 1]
    assert (batch.result(2, "image") == batch.result(0, "image")).all()


def test_a_region_of_a_tiny_frame_has_a_pixel() -> None:
    stage = Letterbox(size=4, regions={"door": [0.9, 0.9, 0.95, 0.95]})
    assert (run(stage, ["door"], image=[frame(2, 2)]).result(0, "image") == (10, 20, 30)).all()


def test_a_frame_without_pixels_fails_alone() -> None:
    batch = run(Letterbox(size=40), image=[frame(0, 200), frame(30, 30)])
    with pytest.raises(BadInput, match="without pixels: 0x200"):
        batch.result(0, "image")
    assert batch.result(1, "place").tolist() == [0, 0, 1, 1]


def test_a_large_frame_is_filtered_and_not_sampled() -> None:
    # Stripes of one pixel become grey; code that takes each eighth pixel would see one colour.
    stripes = frame(320, 320, (0, 0, 0))
    stripes[:, ::2] = 255
    square = run(Letterbox(size=40), image=[stripes]).result(0, "image")
    assert np.ptp(square.astype(int)) < 20
    assert abs(int(square.mean()) - 127) < 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "size 0"),
        ({"regions": {"door": [0.5, 0, 0.5, 1]}}, r"regions\.door: expected y_min < y_max"),
        ({"regions": {"door": [0, 0, 1]}}, r"regions\.door: expected \[y_min"),
        ({"regions": {"door": [0, 0, 1, 2]}}, r"regions\.door: expected a number from 0 to 1, found 2"),
        ({"regions": [1]}, "regions: expected a mapping"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        Letterbox(**options)  # type: ignore[arg-type]
