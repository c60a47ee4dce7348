"""Sources: from what the command line names to one request a file.

    FILE      a request, also where it does not exist: then that request fails
    FOLDER    its files, those that match one of the patterns, sorted by name
    GLOB      what it matches; matching nothing is a mistake of the command line

A pipeline whose one input is a run of bytes gets the file as it is; every other gets its arrays out
of a .npy file (one input) or a .npz file (by name).
"""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, InvalidRequest
from stages.spec import TensorSpec

__all__ = ["expand", "load_arrays", "open_file", "takes_bytes"]


def expand(named: Iterable[str], base_dir: Path, patterns: Sequence[str] = ("*",)) -> list[str]:
    """The files that the command line, or the config's `run.inputs`, names; each once, in order.

    Args:
        named: files, folders and globs.
        base_dir: what relative ones are relative to.
        patterns: which files of a folder are meant: `*.jpg`, ...

    Raises:
        ConfigError: a glob or a folder holds nothing to run.
    """
    files: dict[str, None] = {}
    for name in named:
        path = base_dir / name
        if path.is_dir():
            found = sorted(
                str(entry)
                for entry in path.iterdir()
                if entry.is_file() and any(fnmatch.fnmatch(entry.name.lower(), p.lower()) for p in patterns)
            )
            if not found:
                raise ConfigError(f"{path}: no file in this folder matches {', '.join(patterns)}")
        elif glob.has_magic(name) and not path.exists():
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                raise ConfigError(f"{path}: this pattern matches no file")
        else:
            found = [str(path)]
        files.update(dict.fromkeys(found))
    return list(files)


def takes_bytes(inputs: Sequence[TensorSpec]) -> bool:
    """Whether a request is one file as it lies on disk."""
    return len(inputs) == 1 and inputs[0].dtype == "uint8" and len(inputs[0].shape) == 1 and not inputs[0].is_static


def open_file(path: Path) -> tuple[int, int]:
    """A descriptor to read a regular file from, and its size in bytes; the caller closes it.

    Raises:
        InvalidRequest: it is something else: a folder, a FIFO, a device.
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: a FIFO among the files must not hang the run.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise InvalidRequest("expected a file" + (", found a folder" if stat.S_ISDIR(status.st_mode) else ""))
    return fd, status.st_size


def load_arrays(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """The inputs of one request out of a .npy or .npz file. Nothing is unpickled.

    Raises:
        InvalidRequest: the file is of neither form, or does not hold the pipeline's inputs.
        OSError: it cannot be read.
    """
    names = [spec.name for spec in inputs]
    fd, _ = open_file(path)
    with open(fd, "rb") as file:
        data = file.read()
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        # A .npz file is read array by array, when asked for it.
        found = {"": loaded} if isinstance(loaded, np.ndarray) else {n: loaded[n] for n in names if n in loaded.files}
    except Exception as error:  # whatever the parsers below numpy raise at nonsense: tokenize, zipfile, zlib, ...
        raise InvalidRequest(
            f"expected a .npy or .npz file with {', '.join(map(str, inputs))}: {type(error).__name__}: {error}"
        ) from None
    if isinstance(loaded, np.ndarray):
        if len(names) != 1:
            raise InvalidRequest(f"expected a .npz file with the inputs {', '.join(names)}; found one array")
        return {names[0]: loaded}
    if missing := sorted(set(names) - set(found)):
        raise InvalidRequest(f"no array {missing[0]!r} in the file; it has {', '.join(loaded.files)}")
    return found
