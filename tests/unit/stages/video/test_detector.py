"""models/nanodet.onnx and the stages around it, on photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.infer import Infer
from stages.stage import StageContext
from stages.testing import run
from stages.video.letterbox import Letterbox
from stages.video.nanodet import DecodeNanoDet

ROOT = Path(__file__).parents[4]
LABELS = (ROOT / "models" / "coco.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def model() -> Infer:
    stage = Infer(model="models/nanodet.onnx", base_dir=ROOT)
    stage.setup(StageContext(max_batch=3))
    return stage


def photograph(name: str) -> np.ndarray:
    return np.asarray(Image.open(ROOT / "photos" / name).convert("RGB"))


def detected(model: Infer, *pictures: np.ndarray) -> list[np.ndarray]:
    """The detections of each picture, in one batch."""
    squares = run(Letterbox(), image=pictures)
    rows = range(len(pictures))
    made = run(model, image=[squares.result(row, "image") for row in rows])
    decoded = run(
        DecodeNanoDet(),
        scores=[made.result(row, "scores") for row in rows],
        sides=[made.result(row, "sides") for row in rows],
        place=[squares.result(row, "place") for row in rows],
    )
    return [decoded.result(row, "detections")[: decoded.result(row, "count")] for row in rows]


@pytest.mark.parametrize(
    ("name", "label", "score", "box"),
    [
        ("astronaut.jpg", "person", 0.73, (15, 14, 349, 493)),
        ("cat.jpg", "cat", 0.55, (2, 3, 430, 292)),
    ],
)
def test_it_finds_what_is_in_a_photograph(
    model: Infer, name: str, label: str, score: float, box: tuple[int, int, int, int]
) -> None:
    picture = photograph(name)
    height, width, _ = picture.shape
    best = detected(model, picture)[0][0]
    y_min, x_min, y_max, x_max = best[2:] * (height, width, height, width)
    assert LABELS[int(best[0])] == label
    assert best[1] == pytest.approx(score, abs=0.01)
    # Left, top, width and height in pixels: what another implementation of the model found, within 2 %.
    assert (x_min, y_min, x_max - x_min, y_max - y_min) == pytest.approx(box, abs=0.02 * width)


def test_three_pictures_at_once_give_what_each_gives_alone(model: Infer) -> None:
    pictures = [photograph(name) for name in ("astronaut.jpg", "cat.jpg", "coffee.jpg")]
    for together, picture in zip(detected(model, *pictures), pictures):
        np.testing.assert_allclose(together, detected(model, picture)[0], atol=1e-5)


def test_a_picture_without_things_has_none(model: Infer) -> None:
    assert len(detected(model, np.full((300, 400, 3), 127, np.uint8))[0]) == 0
