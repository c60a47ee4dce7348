"""The synthetic scene."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.video.frame import Size
from pipeline.video.scene import Drawn, Scene


def drawn(scene: Scene, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.zeros((48, 64, 3), np.uint8)
    assert Drawn(scene, number).write(pixels) == 0
    return pixels


def test_a_url_says_size_rate_length_and_seed() -> None:
    assert Scene.of("synthetic") == Scene()
    assert Scene.of("synthetic:?fps=12.5&frames=3&seed=9&size=320x200") == Scene(Size(320, 200), 12.5, 3, 9)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("synthetic:?fsp=5", "found fsp"),
        ("synthetic:?size=5", "size"),
        ("synthetic:?fps=x", "fps"),
        ("synthetic:?fps=0", "above 0"),
        ("synthetic:?size=0x5", "from 1x1"),
        ("synthetic:?fps=nan", "above 0"),
    ],
)
def test_what_a_scene_cannot_be_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Scene.of(url)


def test_the_same_frame_is_always_the_same_and_the_next_one_is_another() -> None:
    scene = Scene()
    assert (drawn(scene, 5) == drawn(scene, 5)).all()
    assert (drawn(scene, 5) != drawn(scene, 30)).any()
    assert (drawn(scene, 5) != drawn(Scene(seed=1), 5)).any()


def test_shapes_stay_within_the_picture_for_ever() -> None:
    scene = Scene(seed=4)
    for number in range(0, 5000, 37):
        for left, top, right, bottom, _ in scene.shapes(number):
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
