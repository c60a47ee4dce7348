"""Calibration: the samples from which int8 ranges are measured: a model's real inputs, out of its pre-processing.

TensorRT runs them to find the range of each tensor. They come as .npz files with one array for each input
of the model, of its dtype, with the samples along the first axis:

    numpy.savez("calibration.npz", image=pictures)          # (500, 224, 224, 3)

Pure but for the reading; the calibrator that feeds TensorRT is in `stages.engines.tensorrt.build`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.engines.signature import TensorAxes
from stages.errors import ModelError
from stages.stage import Array

__all__ = ["Calibration", "read_calibration"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Samples of every input of a model."""

    arrays: Mapping[str, Array]
    """(samples, *shape), by the input's name; the same number of samples for each."""
    digest: str
    """Digest of names, shapes and contents: plans that were built with other samples are out of date."""

    @property
    def samples(self) -> int:
        """The number of samples."""
        return min(len(array) for array in self.arrays.values())

    def check(self, inputs: tuple[TensorAxes, ...], batch: int) -> None:
        """Compare with the inputs of a network: batch axis included, every extent a number.

        Raises:
            ModelError: a name, a dtype or a shape differs, or there are fewer samples than a batch has.
        """
        expected = {tensor.name: (tensor.dtype, tuple(tensor.axes[1:])) for tensor in inputs}
        found = {name: (array.dtype.name, array.shape[1:]) for name, array in self.arrays.items()}
        for name, wanted in expected.items():
            if found.get(name) != wanted:
                raise ModelError(
                    f"calibration: input {name} is {wanted[0]} {list(wanted[1])}, found "
                    + (f"{found[name][0]} {list(found[name][1])}" if name in found else f"only {', '.join(found)}")
                )
        if self.samples < batch:
            raise ModelError(f"calibration: {self.samples} samples, expected at least one batch of {batch}")


def read_calibration(path: Path) -> Calibration:
    """The samples of an .npz file, or of all .npz files of a folder, in the order of their names.

    Raises:
        ModelError: there is no file, one is damaged, or they do not fit each other.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise ModelError(f"calibration: no .npz file in {path}")
    parts: dict[str, list[Array]] = {}
    for file in files:
        try:
            # Opened here, since numpy leaves a damaged file open.
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
                arrays = {name: np.ascontiguousarray(content[name]) for name in content.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, AttributeError) as error:
            raise ModelError(f"calibration: {file} cannot be read as an .npz file of arrays: {error}") from error
        if parts and set(arrays) != set(parts):
            raise ModelError(f"calibration: {file} has {sorted(arrays)}, {files[0]} has {sorted(parts)}")
        for name, array in arrays.items():
            if array.ndim == 0 or (name in parts and array.shape[1:] != parts[name][0].shape[1:]):
                raise ModelError(f"calibration: {file}: {name} of shape {list(array.shape)} does not fit the others")
            parts.setdefault(name, []).append(array)
    arrays = {name: np.concatenate(found) for name, found in sorted(parts.items())}
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        counted = ", ".join(f"{len(array)} of {name}" for name, array in arrays.items())
        raise ModelError(f"calibration: {path}: expected equally many samples of each input, found {counted or 'none'}")
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return Calibration(arrays, digest.hexdigest())
