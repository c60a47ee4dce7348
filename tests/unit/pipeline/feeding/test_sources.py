"""From what the command line names to requests."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, InvalidRequest
from pipeline.feeding.sources import expand, load_arrays, open_file, takes_bytes
from stages.spec import TensorSpec

PICTURES = ("*.jpg", "*.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.JPG", "c.png", "notes.txt", "inner/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_is_its_matching_files_in_order_of_their_names(folder: Path) -> None:
    assert expand(["."], folder, PICTURES) == [str(folder / name) for name in ("a.JPG", "b.jpg", "c.png")]
    assert expand([str(folder)], Path("/"), ("*.txt",)) == [str(folder / "notes.txt")]


def test_a_named_file_is_a_request_whatever_it_is_called_and_whether_or_not_it_exists(folder: Path) -> None:
    assert expand(["notes.txt", "gone.jpg"], folder, PICTURES) == [str(folder / "notes.txt"), str(folder / "gone.jpg")]


def test_a_glob_is_what_it_matches_also_in_deeper_folders(folder: Path) -> None:
    assert expand(["*.jpg"], folder) == [str(folder / "b.jpg")]
    assert expand(["**/*.jpg"], folder) == [str(folder / "b.jpg"), str(folder / "inner" / "d.jpg")]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder: Path) -> None:
    (folder / "[x].png").write_bytes(b"")
    (folder / "x.png").write_bytes(b"")
    assert expand(["[x].png"], folder) == [str(folder / "[x].png")]


def test_each_file_is_run_once_where_it_is_named_first(folder: Path) -> None:
    assert expand(["c.png", ".", "b.jpg"], folder, PICTURES) == [str(folder / n) for n in ("c.png", "a.JPG", "b.jpg")]


@pytest.mark.parametrize(
    ("named", "said"), [("*.gif", "this pattern matches no file"), ("inner", r"no file in this folder matches \*\.png")]
)
def test_nothing_to_run_is_a_mistake_of_the_command_line(folder: Path, named: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        expand([named], folder, ("*.png",))


def test_only_one_free_run_of_bytes_takes_a_file_as_it_is() -> None:
    free = TensorSpec("image", "uint8", ("bytes",), {"bytes": 10})
    assert takes_bytes([free])
    assert not takes_bytes([free, free])
    assert not takes_bytes([TensorSpec("image", "uint8", (10,))])
    assert not takes_bytes([TensorSpec("image", "int8", ("n",), {"n": 10})])
    assert not takes_bytes([TensorSpec("image", "uint8", ("n", 3), {"n": 10})])


X, Y = TensorSpec("x", "float32", (2,)), TensorSpec("y", "int64", ())


def test_a_npy_file_is_the_one_input_and_a_npz_file_has_them_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 2], "float32"))
    np.savez(tmp_path / "both.npz", x=np.array([3, 4], "float32"), y=np.int64(5), z=np.zeros(3))
    assert load_arrays(tmp_path / "x.npy", [X])["x"].tolist() == [1, 2]
    found = load_arrays(tmp_path / "both.npz", [X, Y])
    assert {name: array.tolist() for name, array in found.items()} == {"x": [3, 4], "y": 5}


def test_a_file_that_does_not_hold_the_inputs_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(2))
    np.savez(tmp_path / "x.npz", x=np.zeros(2))
    with pytest.raises(InvalidRequest, match=r"expected a \.npz file with the inputs x, y; found one array"):
        load_arrays(tmp_path / "x.npy", [X, Y])
    with pytest.raises(InvalidRequest, match="no array 'y' in the file; it has x"):
        load_arrays(tmp_path / "x.npz", [X, Y])
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "gone.npy", [X])


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(2))
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"a text", b"PK\x03\x04", _npz()[:-30], b"\x93NUMPY\x01\x00v\x00" + b"{" * 118, b"\x80\x04K\x01."],
    ids=["empty", "text", "start of a zip", "cut zip", "broken header", "pickle"],
)
def test_what_is_no_array_file_is_refused_with_what_was_expected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"expected a \.npy or \.npz file with x"):
        load_arrays(tmp_path / "x.npy", [X])


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.npy")
    for path, said in ((tmp_path / "fifo.npy", "expected a file$"), (tmp_path, "expected a file, found a folder")):
        with pytest.raises(InvalidRequest, match=said):
            load_arrays(path, [X])
        with pytest.raises(InvalidRequest, match=said):
            open_file(path)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InvalidRequest, match="expected a"):
            load_arrays(tmp_path / name, [X])


def test_a_broken_array_inside_a_good_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(_npz())
    at = data.index(b"\x93NUMPY")
    data[at + 10] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InvalidRequest, match="expected a"):
        load_arrays(tmp_path / "x.npz", [X])
