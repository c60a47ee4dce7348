from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.errors import BadInput, BadOption
from stages.ocr.page import DecodePage
from stages.testing import MemoryBatch, run


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def decoded(stage: DecodePage, *files: np.ndarray) -> MemoryBatch:
    return run(stage, image=list(files))


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8))


def test_a_page_of_fitting_size_goes_through_as_it_is(noise: Image.Image) -> None:
    batch = decoded(DecodePage(min_side=0), encoded(noise))
    pixels = np.asarray(noise)
    assert (batch.result(0, "page") == pixels).all()
    assert batch.result(0, "size").tolist() == [96, 64]
    scaled = batch.result(0, "scaled")
    assert scaled.shape == (3, 64, 96)
    # Blue comes first.
    assert np.abs(scaled - (pixels[..., ::-1].transpose(2, 0, 1) / 127.5 - 1)).max() < 1e-6
    assert batch.bytes_copied == 0


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1000, 700), (704, 992)),  # 31.25 and 21.9 times 32
        ((4000, 1000), (256, 960)),
        ((100, 40), (32, 96)),
        ((10, 3), (32, 32)),
        ((20, 3000), (960, 32)),
    ],
)
def test_the_detectors_sides_are_multiples_of_32_and_bounded(size: tuple[int, int], shape: tuple[int, int]) -> None:
    stage = DecodePage(min_side=0, detect_side=1024 if size == (1000, 700) else 960)
    assert decoded(stage, encoded(Image.new("L", size))).result(0, "scaled").shape == (3, *shape)


def test_a_small_page_is_shown_to_the_detector_larger() -> None:
    batch = decoded(DecodePage(min_side=256, detect_side=960), encoded(Image.new("RGB", (200, 128), "white")))
    assert batch.result(0, "scaled").shape == (3, 256, 384)
    assert batch.result(0, "page").shape == (128, 200, 3)


def test_a_large_page_is_made_smaller_and_its_own_size_is_told() -> None:
    batch = decoded(DecodePage(max_side=320), encoded(Image.new("RGB", (1000, 500), "white")))
    assert batch.result(0, "page").shape == (160, 320, 3)
    assert batch.result(0, "size").tolist() == [1000, 500]


def test_a_photograph_that_was_taken_sideways_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show it
    batch = decoded(DecodePage(), encoded(Image.new("RGB", (96, 64), "white"), "JPEG", exif=exif))
    assert batch.result(0, "size").tolist() == [64, 96]
    assert batch.result(0, "page").shape == (96, 64, 3)


def test_a_damaged_page_fails_alone(noise: Image.Image) -> None:
    good = encoded(noise)
    batch = decoded(DecodePage(), good, good[: len(good) // 2])
    assert batch.result(0, "page").shape == (64, 96, 3)
    with pytest.raises(BadInput, match="PNG image of 96x64 pixels is damaged"):
        batch.result(1, "page")


def test_a_page_of_too_many_pixels_is_refused_before_it_is_decoded(noise: Image.Image) -> None:
    with pytest.raises(BadInput, match="96x64 pixels is larger than the 6000 pixels of option max_pixels"):
        decoded(DecodePage(max_pixels=6000), encoded(noise)).result(0, "page")


@pytest.mark.parametrize("options", [{"detect_side": 1000}, {"detect_side": 0}, {"max_side": 10}])
def test_sides_that_no_page_can_have_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadOption, match=r"expected (a multiple of|at least) 32"):
        DecodePage(**options)
