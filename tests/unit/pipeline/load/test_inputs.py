"""What requests carry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.load.inputs import FREE, VARIETY, make_stock, named_files, named_shapes
from shm.handle import BYTES
from stages.spec import TensorSpec

FILE_OF_BYTES = TensorSpec("image", "uint8", ("bytes",), {"bytes": 1 << 20})
PIXELS = TensorSpec("image", "uint8", ("H", "W", 3), {"H": 64, "W": 64})


def stock(*specs: TensorSpec, batch_size: int = 1, shapes: Any = None, **files: list[Path]) -> Any:
    return make_stock({spec.name: spec for spec in specs}, files, shapes or {}, batch_size)


def only(spec: TensorSpec, path: Path) -> Any:
    """What the requests of a file carry."""
    made = stock(spec, **{spec.name: [path]})
    assert len(made.requests) == 1
    return made.of(0)[spec.name]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "int64", "bool", "complex64"])
def test_random_values_have_the_dtype_and_the_shape_of_the_spec(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (2, 3))
    made = stock(spec)
    assert (made.of(0)["x"].dtype.name, made.of(0)["x"].shape) == (dtype, (2, 3))
    assert made.described == f"x {dtype}[2, 3] random"


def test_requests_differ_and_come_again_and_are_the_same_each_time() -> None:
    spec = TensorSpec("x", "float32", (4,))
    made, again = stock(spec), stock(spec)
    assert len({made.of(number)["x"].tobytes() for number in range(VARIETY)}) == VARIETY
    assert made.of(VARIETY + 3) is made.of(3)
    assert made.of(3)["x"].tobytes() == again.of(3)["x"].tobytes()


def test_a_free_dimension_is_its_maximum_but_not_more_than_can_be_meant() -> None:
    assert stock(PIXELS).of(0)["image"].shape == (64, 64, 3)
    assert stock(FILE_OF_BYTES).of(0)["image"].shape == (FREE,)
    assert stock(PIXELS, shapes={"image": (7, 5, 3)}).of(0)["image"].shape == (7, 5, 3)


def test_a_batch_has_an_axis_more_and_its_rows_differ() -> None:
    rows = stock(TensorSpec("x", "float32", (4,)), batch_size=3).of(0)["x"]
    assert rows.shape == (3, 4)
    assert len({row.tobytes() for row in rows}) == 3


def test_elements_of_bytes_are_bytes_that_fit() -> None:
    spec = TensorSpec("names", BYTES, ("n",), {"n": 4, "bytes": 40})
    made = stock(spec).of(0)["names"]
    assert made.shape == (4,)
    assert sum(4 + len(each) for each in made) <= 40


def test_the_array_of_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    assert (only(TensorSpec("x", "float32", (2, 3)), tmp_path / "x.npy") == array).all()
    with pytest.raises(ConfigError, match=r"x\.npy: input 'x': expected dtype int64, found float32"):
        only(TensorSpec("x", "int64", (2, 3)), tmp_path / "x.npy")


def test_a_picture_is_sent_as_it_lies_on_disk_or_decoded_as_the_input_wants(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (5, 7), (255, 0, 0)).save(path)
    assert only(FILE_OF_BYTES, path).tobytes() == path.read_bytes()
    pixels = only(PIXELS, path)
    assert (pixels.shape, pixels[0, 0].tolist()) == ((7, 5, 3), [255, 0, 0])
    assert only(TensorSpec("image", "uint8", (7, 5)), path).shape == (7, 5)
    assert only(TensorSpec("image", "uint8", (7, 5, 1)), path).shape == (7, 5, 1)
    with pytest.raises(ConfigError, match="expected 224 along axis 0"):
        only(TensorSpec("image", "uint8", (224, 224, 3)), path)
    with pytest.raises(ConfigError, match=r"expected a \.npy file with image float32"):
        only(TensorSpec("image", "float32", (7, 5, 3)), path)


def test_a_file_of_many_bytes_is_one_element_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"some text")
    made = only(TensorSpec("texts", BYTES, ("n",), {"n": 3, "bytes": 100}), tmp_path / "text")
    assert made.tolist() == [b"some text"]
    with pytest.raises(ConfigError, match="expected at most 10"):
        only(TensorSpec("texts", BYTES, ("n",), {"n": 3, "bytes": 10}), tmp_path / "text")


def test_a_document_is_a_value_and_a_batch_of_it_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    spec = TensorSpec.json("question", 100)
    assert only(spec, tmp_path / "a.json") == {"a": 1}
    assert stock(spec, batch_size=2, question=[tmp_path / "a.json"]).of(0)["question"] == [{"a": 1}, {"a": 1}]
    with pytest.raises(ConfigError, match=r"give --input question=FILE\.json"):
        stock(spec)


def test_files_of_an_input_are_taken_in_turn_beside_random_values(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for path in paths:
        path.write_bytes(path.name.encode())
    made = stock(FILE_OF_BYTES, TensorSpec("x", "float32", (1,)), image=paths)
    assert [made.of(number)["image"].tobytes() for number in range(4)] == [b"a", b"b", b"c", b"a"]
    assert made.described.startswith("image uint8 of ")


@pytest.mark.parametrize(
    ("files", "shapes", "says"),
    [
        ({"imgae": [Path("x")]}, {}, "--input imgae: the model has no such input .did you mean image"),
        ({}, {"imgae": (1,)}, "--shape imgae: the model has no such input"),
        ({}, {"image": (99, 99, 3)}, "--shape image: expected at most 64"),
        ({"image": [Path("not-there.png")]}, {}, "not-there.png: cannot be read: No such file"),
        ({"image": [Path(__file__)]}, {}, "expected a .npy file or a picture"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(files: Any, shapes: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_stock({"image": PIXELS}, files, shapes)


def test_more_random_values_than_memory_should_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match="take 1024 MiB, at most 256 are made"):
        stock(TensorSpec("x", "float32", (1 << 24,)))


@pytest.mark.parametrize("wrong", ["image", "=x", "image="])
def test_an_input_is_a_name_and_a_file(wrong: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME=FILE"):
        named_files([wrong])
    assert named_files(["a=x", "a=y=z"]) == {"a": [Path("x"), Path("y=z")]}


def test_a_shape_is_a_name_and_extents() -> None:
    assert named_shapes(["a=3,4", "b=1"]) == {"a": (3, 4), "b": (1,)}
    for wrong in ("a", "a=", "a=3,", "a=-1", "a=x"):
        with pytest.raises(ConfigError, match="expected NAME=EXTENT"):
            named_shapes([wrong])
