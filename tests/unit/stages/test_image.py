from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.errors import BadInput, BadOption
from stages.image import DecodeResize
from stages.testing import run


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_input(files: Sequence[bytes]) -> list[np.ndarray]:
    return [np.frombuffer(file, np.uint8) for file in files]


def decoded(file: bytes, **options: Any) -> np.ndarray:
    options = {"size": 32, "mode": "stretch", "dtype": "uint8", "layout": "hwc", **options}
    return run(DecodeResize(**options), image=as_input([file])).result(0, "image")


def refusal(file: bytes, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        decoded(file, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Smooth, without symmetry, not square: what is turned, mirrored or swapped shows."""
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([x * 4, y * 5, (x + y) // 2 + 60], -1).astype(np.uint8))


@pytest.fixture(scope="module")
def reference(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def coffee(photos: Path) -> bytes:
    return (photos / "coffee.jpg").read_bytes()


# -- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 8),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
        ("GIF", {}, 24),
    ],
)
def test_every_format_gives_the_picture(
    picture: Image.Image, reference: np.ndarray, kind: str, options: dict[str, Any], tolerance: int
) -> None:
    found = decoded(encoded(picture, kind, **options))
    assert np.abs(found.astype(int) - reference).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_kind_of_pixel_becomes_rgb(picture: Image.Image, mode: str) -> None:
    source = picture.convert(mode)
    found = decoded(encoded(source, "JPEG", quality=95) if mode == "CMYK" else encoded(source, "PNG"))
    expected = np.asarray(source.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_16_bit_grey_keeps_its_upper_bits() -> None:
    levels = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    found = decoded(encoded(Image.fromarray(levels), "PNG"), color="gray")
    assert (found[..., 0] == levels >> 8).all()


def test_transparency_lies_on_white() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 16:] = (200, 0, 0, 255)
    pixels[:, :16] = (0, 0, 90, 0)
    found = decoded(encoded(Image.fromarray(pixels), "PNG"))
    assert (found[:, :16] == 255).all()
    assert (found[:, 16:] == (200, 0, 0)).all()


def test_a_palette_with_transparency_lies_on_white_too() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 90, 200, 0, 0])
    image.paste(0, (0, 0, 16, 32))
    found = decoded(encoded(image, "PNG", transparency=bytes([0, 255])))
    assert (found[:, :16] == 255).all()
    assert (found[:, 16:] == (200, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(picture: Image.Image, reference: np.ndarray, orientation: int) -> None:
    turn_back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture.transpose(turn_back[orientation]) if orientation in turn_back else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(encoded(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    assert np.abs(found.astype(int) - reference).max() <= 8


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    found = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (found == (255, 0, 0)).all()


def test_the_picture_is_read_as_it_is_and_warnings_stay_silent(picture: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded(encoded(picture.convert("P"), "GIF", transparency=0))


# -- geometry and numbers --------------------------------------------------------------------------


def test_crop_takes_the_centre_of_the_resized_picture(picture: Image.Image) -> None:
    found = decoded(encoded(picture, "PNG"), mode="crop", resize=24, size=16)
    whole = np.asarray(picture.resize((32, 24), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - whole[4:20, 8:24]).max() <= 1


def test_stretch_then_cut_equals_resizing_everything_first(picture: Image.Image) -> None:
    found = decoded(encoded(picture, "PNG"), resize=40, size=32)
    whole = np.asarray(picture.resize((40, 40), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - whole[4:36, 4:36]).max() <= 1


def test_a_very_long_strip_is_cut_before_it_is_enlarged() -> None:
    strip = encoded(Image.new("RGB", (60_000, 4), "green"), "PNG")
    assert (decoded(strip, mode="crop", resize=256, size=224) == (0, 128, 0)).all()


def test_a_picture_of_one_pixel_is_enlarged() -> None:
    assert (decoded(encoded(Image.new("RGB", (1, 1), "red"), "PNG")) == (255, 0, 0)).all()


def test_numbers_are_normalised_in_the_order_of_the_channels(picture: Image.Image, reference: np.ndarray) -> None:
    options = {"dtype": "float32", "color": "bgr", "mean": [1, 2, 3], "std": [2, 4, 8]}
    found = decoded(encoded(picture, "PNG"), **options)
    expected = (reference[..., ::-1].astype(np.float32) - np.float32([1, 2, 3])) / np.float32([2, 4, 8])
    assert found.dtype == np.float32
    assert np.allclose(found, expected)
    planes = decoded(encoded(picture, "PNG"), **options, layout="chw")
    assert (planes == np.moveaxis(found, -1, 0)).all()


def test_one_number_of_mean_and_std_serves_all_channels(picture: Image.Image, reference: np.ndarray) -> None:
    found = decoded(encoded(picture, "PNG"), dtype="float32", mean=127, std=128)
    assert np.allclose(found, (reference.astype(np.float32) - 127) / 128)


def test_gray_has_one_channel(picture: Image.Image) -> None:
    found = decoded(encoded(picture, "PNG"), color="gray", layout="chw")
    expected = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BILINEAR))
    assert found.shape == (1, 32, 32)
    assert (found[0] == expected).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_each_interpolation_is_pillows_of_that_name(picture: Image.Image, interpolation: str) -> None:
    name = {"area": "BOX"}.get(interpolation, interpolation.upper())
    expected = np.asarray(picture.resize((32, 32), Image.Resampling[name]))
    assert (decoded(encoded(picture, "PNG"), interpolation=interpolation) == expected).all()


def test_a_draft_is_nearly_the_same_picture(coffee: bytes) -> None:
    exact, draft = decoded(coffee, size=64), decoded(coffee, size=64, draft=True)
    difference = np.abs(exact.astype(int) - draft)
    assert 0 < difference.mean() < 3


def test_every_row_of_a_batch_is_its_own_picture(picture: Image.Image, coffee: bytes) -> None:
    files = [coffee, encoded(picture, "PNG"), coffee[:99], encoded(picture.rotate(180), "PNG")]
    stage = DecodeResize(size=32)
    done = run(stage, image=as_input(files))
    assert list(done.failed) == [2]
    for row in (0, 1, 3):
        alone = run(stage, image=as_input([files[row]])).result(0, "image")
        assert (done.result(row, "image") == alone).all()
    assert done.bytes_copied == 0


# -- bad files -------------------------------------------------------------------------------------


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == "image file is empty (0 bytes)"


@pytest.mark.parametrize("text", [b"not a picture at all", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x00", b"\xff\xd8"])
def test_a_file_that_is_no_picture_is_refused_with_its_first_bytes(text: bytes) -> None:
    why = refusal(text)
    assert "not an image of a known format (JPEG, PNG" in why
    assert repr(text[:16]) in why


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_short_is_refused_and_never_half_grey(coffee: bytes, progressive: bool, share: float) -> None:
    if progressive:
        coffee = encoded(Image.open(io.BytesIO(coffee)), "JPEG", progressive=True)
    why = refusal(coffee[: int(len(coffee) * share)])
    assert "damaged" in why or "truncated" in why or "not an image" in why


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_other_formats_cut_short_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    file = encoded(Image.fromarray(noise), kind)
    assert "is damaged: " in refusal(file[: int(len(file) * share)])


def png(width: int, height: int, bits: int, color: int, rows: bytes, clear: bytes = b"") -> bytes:
    """A PNG of these rows, each with its filter before it; `clear` is the colour that is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + (chunk(b"tRNS", clear) if clear else b"")
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and brings almost nothing."""
    return png(width, height, 8, 2, b"\0")


@pytest.mark.parametrize(
    ("bits", "color", "row", "clear", "left", "right"),
    [
        (16, 0, b"\xc8\x00" * 4 + b"\x64\x00" * 4, b"\xc8\x00", 255, 100),
        (16, 0, b"\xc8\x00" * 4 + b"\xc8\x01" * 4, b"\xc8\x00", 255, 200),
        (8, 0, b"\xc8" * 4 + b"\x64" * 4, b"\x00\xc8", 255, 100),
        (4, 0, b"\x55" * 2 + b"\xaa" * 2, b"\x00\x05", 255, 170),
        (4, 0, b"\x55" * 2 + b"\xaa" * 2, b"", 85, 170),
        (2, 0, b"\x55\xaa", b"\x00\x01", 255, 170),
        (1, 0, b"\x0f", b"\x00\x00", 255, 255),
        (16, 2, b"\xc8\x00" * 12 + b"\x64\x00" * 12, b"\xc8\x00" * 3, 255, 100),
        (8, 2, b"\xc8" * 12 + b"\x64" * 12, b"\x00\xc8" * 3, 255, 100),
    ],
    ids=["grey 16", "grey 16, near", "grey 8", "grey 4", "grey 4, none", "grey 2", "grey 1", "rgb 16", "rgb 8"],
)
def test_the_transparent_colour_of_a_png_is_white_whatever_its_bits(
    bits: int, color: int, row: bytes, clear: bytes, left: int, right: int
) -> None:
    found = decoded(png(8, 1, bits, color, b"\0" + row, clear), size=8, mode="stretch", interpolation="nearest")
    assert found[0, 0].tolist() == [left] * 3
    assert found[0, 7].tolist() == [right] * 3


def tiff(bits: int, photometric: int, row: bytes) -> bytes:
    """A TIFF of 8 x 1 pixels of grey, not compressed."""
    tags = [(256, 8), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1), (279, len(row))]
    at = 8 + len(row)
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", at) + row + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "photometric", "row", "grey"),
    [
        (16, 1, struct.pack("<H", 200 << 8) * 8, 200),
        (16, 0, struct.pack("<H", 55 << 8) * 8, 200),
        (12, 1, b"\xc8\x0c\x80" * 4, 200),
        (8, 0, b"\x37" * 8, 200),
    ],
    ids=["16", "16, white is zero", "12", "8, white is zero"],
)
def test_grey_of_a_tiff_is_as_it_is_shown(bits: int, photometric: int, row: bytes, grey: int) -> None:
    assert (decoded(tiff(bits, photometric, row), size=8, mode="stretch") == grey).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_that_no_viewer_shows_alike_are_refused(dtype: type) -> None:
    why = refusal(encoded(Image.fromarray(np.full((4, 4), 70000, dtype)), "TIFF"))
    assert why.startswith("TIFF image of 4x4 pixels: expected 8 or 16 bits for each channel, found 32")


def test_a_tiff_is_decoded_and_grey_of_16_bits_in_either_order_keeps_its_upper_8(picture: Image.Image) -> None:
    assert (decoded(encoded(picture, "TIFF")) == decoded(encoded(picture, "PNG"))).all()
    for order in "<>":
        grey = np.full((4, 4), 200 << 8, f"{order}u2")
        file = io.BytesIO()
        Image.frombytes(f"I;16{'B' if order == '>' else ''}", (4, 4), grey.tobytes()).save(file, "TIFF")
        assert (decoded(file.getvalue()) == 200).all()


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, 1000])
def test_a_bomb_is_refused_by_its_header_before_anything_is_decoded(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    why = refusal(png_header(20_000, 20_000))
    assert why == "image of 20000x20000 pixels is larger than the 50000000 pixels of option max_pixels"
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_largest_picture_can_be_set(picture: Image.Image) -> None:
    file = encoded(picture, "PNG")
    decoded(file, max_pixels=64 * 48)
    assert "64x48 pixels is larger than the 3071 pixels" in refusal(file, max_pixels=64 * 48 - 1)


def test_max_bytes_is_the_inputs_maximum() -> None:
    assert DecodeResize(max_bytes=4096).inputs[0].max == {"bytes": 4096}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
def test_damaged_bytes_give_a_picture_or_a_refusal_and_nothing_else(data: st.DataObject, kind: str) -> None:
    file = bytearray(encoded(Image.linear_gradient("L").resize((24, 16)).convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    done = run(DecodeResize(size=8, max_pixels=100_000), image=as_input([bytes(file)]))
    assert isinstance(done.failed.get(0, BadInput()), BadInput)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mode": "fit"}, "mode 'fit': expected one of crop, stretch"),
        ({"color": "hsv"}, "color 'hsv': expected one of rgb, bgr, gray"),
        ({"dtype": "float16"}, "dtype 'float16': expected one of float32, uint8"),
        ({"layout": "nchw"}, "layout 'nchw'"),
        ({"interpolation": "cubic"}, "interpolation 'cubic': expected one of nearest, bilinear"),
        ({"size": 224, "resize": 200}, "size 224, resize 200: expected 1 <= size <= resize"),
        ({"size": 0}, "size 0"),
        ({"mean": [1, 2]}, r"mean \[1, 2\]: expected one number, or 3"),
        ({"std": [1, 0, 1]}, "other than 0"),
        ({"mean": float("nan")}, "mean nan: expected one number"),
        ({"std": [1, 1, 1e39]}, "expected one number, or 3"),
        ({"mean": 127, "dtype": "uint8"}, "mean and std need dtype float32"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_ones(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        DecodeResize(**options)
