"""The samples that int8 is measured on: read whole, compared with the model, told apart by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.engines.calibration import read_calibration
from stages.engines.signature import TensorAxes
from stages.errors import ModelError


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def floats(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_the_files_of_a_folder_are_one_set_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(tmp_path / "b.npz", x=floats(2, 3) + 100)
    save(tmp_path / "a.npz", x=floats(4, 3))
    (tmp_path / "notes.txt").write_text("not a sample")
    found = read_calibration(tmp_path)
    assert found.samples == 6
    np.testing.assert_array_equal(found.arrays["x"], np.concatenate([floats(4, 3), floats(2, 3) + 100]))
    found.check((TensorAxes("x", "float32", (6, 3)),), 6)


def test_other_contents_or_types_have_another_digest(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / "1.npz", x=floats(4, 3)),
        save(tmp_path / "2.npz", x=floats(4, 3) + 1),
        save(tmp_path / "3.npz", x=floats(4, 3).view(np.int32)),
        save(tmp_path / "4.npz", y=floats(4, 3)),
        save(tmp_path / "5.npz", x=floats(4, 3).reshape(4, 3, 1)),
    ]
    assert len({read_calibration(path).digest for path in paths}) == len(paths)
    again = save(tmp_path / "again.npz", x=floats(4, 3))
    assert read_calibration(again).digest == read_calibration(paths[0]).digest


def test_samples_are_dense_and_of_this_machines_byte_order_whatever_the_files_are(tmp_path: Path) -> None:
    plain = read_calibration(save(tmp_path / "plain.npz", x=floats(4, 3, 2)))
    for name, array in (("columns", np.asfortranarray(floats(4, 3, 2))), ("big", floats(4, 3, 2).astype(">f4"))):
        found = read_calibration(save(tmp_path / f"{name}.npz", x=array))
        assert found.arrays["x"].tobytes() == floats(4, 3, 2).tobytes()
        assert found.arrays["x"].flags.c_contiguous
        # TensorRT is given the address.
        assert bytes(found.arrays["x"].data) == floats(4, 3, 2).tobytes()
        assert found.digest == plain.digest


@pytest.mark.parametrize(
    ("axes", "batch", "said"),
    [
        (TensorAxes("image", "float32", (1, 3)), 1, r"input image is float32 \[3\], found only x"),
        (TensorAxes("x", "uint8", (1, 3)), 1, r"input x is uint8 \[3\], found float32 \[3\]"),
        (TensorAxes("x", "float32", (1, 4)), 1, r"input x is float32 \[4\], found float32 \[3\]"),
        (TensorAxes("x", "float32", (8, 3)), 8, "4 samples, expected at least one batch of 8"),
    ],
)
def test_samples_of_another_model_are_refused(tmp_path: Path, axes: TensorAxes, batch: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_calibration(save(tmp_path / "x.npz", x=floats(4, 3))).check((axes,), batch)


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", x=floats(4, 3))
    other = save(tmp_path / "b.npz", y=floats(4, 3))
    with pytest.raises(ModelError, match=r"b\.npz has \['y'\], .*a\.npz has \['x'\]"):
        read_calibration(tmp_path)
    save(other, x=floats(4, 5))
    with pytest.raises(ModelError, match=r"x of shape \[4, 5\] does not fit the others"):
        read_calibration(tmp_path)
    save(other, x=floats(4, 3), y=floats(1, 3))
    with pytest.raises(ModelError, match="expected equally many samples of each input, found 4 of x, 1 of y"):
        read_calibration(other)


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04damaged"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.npz cannot be read"):
        read_calibration(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_calibration(tmp_path / "x.npz")
