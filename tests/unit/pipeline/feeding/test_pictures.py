"""Outputs that are pictures."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.findings import Findings, Locations
from pipeline.errors import ConfigError
from pipeline.feeding.pictures import check_pictures, is_picture, suffix_of, write_picture
from stages.spec import TensorSpec


def test_a_picture_is_of_bytes_and_has_one_three_or_four_colours() -> None:
    assert is_picture("uint8", ("H", "W"))
    assert is_picture("uint8", ("H", "W", "C"))
    assert is_picture("uint8", (480, 640, 4))
    assert not is_picture("float32", ("H", "W"))
    assert not is_picture("uint8", (480, 640, 2))
    assert is_picture("uint8", ("bytes",))
    assert not is_picture("float32", ("bytes",))
    assert not is_picture("uint8", (1, 3, 4, 4))


def test_a_name_that_no_answer_has_and_one_that_is_no_picture_are_findings() -> None:
    specs = {"mask": TensorSpec("mask", "uint8", (4, 4)), "scores": TensorSpec("scores", "float32", (4,))}
    plan: Any = SimpleNamespace(outputs=tuple((name, name) for name in specs), output_spec=specs.__getitem__)
    findings = Findings(Locations("demo.yaml:1:1"))
    check_pictures(["mask"], plan, findings)
    findings.refuse()
    check_pictures(["mask", "scores", "image"], plan, findings)
    with pytest.raises(ConfigError) as caught:
        findings.refuse()
    assert str(caught.value).splitlines() == [
        "demo.yaml:1:1: run.pictures[1]: scores float32[4] is not a picture; expected uint8 [H, W], [H, W, 3], [H, W, 4] or [bytes]",
        "demo.yaml:1:1: run.pictures[2]: no answer has an output 'image'; there is mask, scores",
    ]


@pytest.mark.parametrize(("shape", "mode"), [((4, 5), "L"), ((4, 5, 1), "L"), ((4, 5, 3), "RGB"), ((4, 5, 4), "RGBA")])
def test_a_picture_is_written_as_it_is(shape: tuple[int, ...], mode: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    stream = io.BytesIO()
    write_picture(stream, "image", array)
    with Image.open(stream) as found:
        assert (found.format, found.mode) == ("PNG", mode)
        assert np.array_equal(np.asarray(found).reshape(shape), array)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("PNG", ".png"), ("JPEG", ".jpg"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif"), ("WEBP", ".webp")],
)
def test_the_bytes_of_a_picture_are_written_as_they_are_and_called_what_they_are(kind: str, suffix: str) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (4, 5), "red").save(encoded, kind)
    array = np.frombuffer(encoded.getvalue(), np.uint8)
    stream = io.BytesIO()
    write_picture(stream, "image", array)
    assert (suffix_of(array), stream.getvalue()) == (suffix, encoded.getvalue())
    assert suffix_of(array[1:]) == ".bin"
    assert suffix_of(np.zeros((2, 2), np.uint8)) == ".png"
