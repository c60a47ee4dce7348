"""Inputs: what the requests of a load generator carry; made before the first one is sent, so that sending is quick.

    nothing named            random values by the input's spec, another one for each of `VARIETY` requests, then again
    NAME=FILE.npy            the array in the file
    NAME=FILE                the file as it lies on disk, if the input takes one: uint8 [bytes], or one element of bytes
                             a JSON document, if the input is of dtype json
                             the picture, decoded, if the input is uint8 [H, W, 3], [H, W, 1] or [H, W]

Several files of one input are taken in turn. A free dimension of random values is as large as `--shape` says, otherwise
its maximum, but at most `FREE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, InvalidRequest
from pipeline.feeding.arrays import is_array_file, parse_json, read_arrays
from pipeline.feeding.sources import open_file
from shm.handle import BYTES, JSON, itemsize
from stages.hints import did_you_mean
from stages.spec import TensorSpec

__all__ = ["FREE", "VARIETY", "Stock", "make_stock", "named_files", "named_shapes"]

VARIETY = 16
"""How many different requests there are at least."""
FREE = 256
"""The largest extent of a free dimension that is chosen here."""
_SEED = 20_190_330
_ELEMENT = 16
_MOST_BYTES = 256 << 20

Array = NDArray[Any]


@dataclass(frozen=True)
class Stock:
    """The inputs of all requests."""

    requests: Sequence[Mapping[str, Any]]
    """By input name; request n carries number n modulo their count."""
    described: str
    """For a person: "Input3 float32[1, 28, 28] random"."""

    def of(self, number: int) -> Mapping[str, Any]:
        """The inputs of that request."""
        return self.requests[number % len(self.requests)]


def named_files(assignments: Iterable[str]) -> dict[str, list[Path]]:
    """The files of each input, of "NAME=FILE".

    Raises:
        ConfigError: it is not of this form.
    """
    found: dict[str, list[Path]] = {}
    for each in assignments:
        name, sign, path = each.partition("=")
        if not sign or not name or not path:
            raise ConfigError(f"--input: expected NAME=FILE, found {each!r}")
        found.setdefault(name, []).append(Path(path))
    return found


def named_shapes(assignments: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The shape of each input, of "NAME=3,224,224".

    Raises:
        ConfigError: it is not of this form.
    """
    found = {}
    for each in assignments:
        name, _, extents = each.partition("=")
        if not re.fullmatch(r"\d+(,\d+)*", extents):
            raise ConfigError(f"--shape: expected NAME=EXTENT,EXTENT, such as image=480,640,3, found {each!r}")
        found[name] = tuple(int(extent) for extent in extents.split(","))
    return found


def make_stock(
    specs: Mapping[str, TensorSpec],
    files: Mapping[str, Sequence[Path]],
    shapes: Mapping[str, tuple[int, ...]],
    batch_size: int = 1,
) -> Stock:
    """The inputs of all requests.

    Args:
        specs: the model's inputs.
        files, shapes: of `named_files` and `named_shapes`.
        batch_size: rows of each request; 1: a request is one row, without an axis for it.

    Raises:
        ConfigError: a name is none of the model's inputs, a file does not fit its input, or values cannot be made up.
    """
    for option, names in (("--input", files), ("--shape", shapes)):
        if unknown := [name for name in names if name not in specs]:
            raise ConfigError(
                f"{option} {unknown[0]}: the model has no such input{did_you_mean(unknown[0], specs)}; "
                f"it has {', '.join(specs) or 'none'}"
            )
    columns: dict[str, list[Any]] = {}
    described = []
    random = np.random.default_rng(_SEED)
    for name, spec in specs.items():
        if name in files:
            columns[name] = [_batch(spec, [_read(spec, path)] * batch_size) for path in files[name]]
            described.append(f"{spec.name} {spec.dtype} of {', '.join(map(str, files[name]))}")
        else:
            shape = _shape(spec, shapes.get(name))
            rows = batch_size * max(VARIETY, *(len(each) for each in files.values()), 0)
            _refuse_size(spec, shape, rows)
            columns[name] = [
                _batch(spec, [_random(spec, shape, random) for _ in range(batch_size)])
                for _ in range(rows // batch_size)
            ]
            described.append(f"{spec.name} {spec.dtype}{list(shape)} random")
    count = max([len(column) for column in columns.values()], default=1)
    requests = [{name: column[number % len(column)] for name, column in columns.items()} for number in range(count)]
    return Stock(requests, ", ".join(described) or "none")


def _batch(spec: TensorSpec, rows: list[Any]) -> Any:
    """One request of these rows."""
    if len(rows) == 1:
        return rows[0]
    return rows if spec.dtype == JSON else np.stack(rows)


def _shape(spec: TensorSpec, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if spec.dtype == JSON:
        raise ConfigError(f"input {spec}: a JSON document cannot be made up; give --input {spec.name}=FILE.json")
    if given is None:
        return tuple(min(spec.max[each], FREE) if isinstance(each, str) else each for each in spec.shape)
    stored = (*given, spec.max_nbytes) if spec.dtype == BYTES else given
    if (why := spec.misfit(spec.dtype, stored)) is not None:
        raise ConfigError(f"--shape {spec.name}: {why}")
    return given


def _refuse_size(spec: TensorSpec, shape: tuple[int, ...], rows: int) -> None:
    nbytes = rows * itemsize(spec.dtype) * int(np.prod(shape, dtype=object))
    if nbytes > _MOST_BYTES:
        raise ConfigError(
            f"input {spec}: {rows} rows of random values of shape {list(shape)} take {nbytes >> 20} MiB, at most "
            f"{_MOST_BYTES >> 20} are made; give --input {spec.name}=FILE, or a smaller --shape or --batch_size"
        )


def _random(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    if spec.dtype == BYTES:
        count = int(np.prod(shape, dtype=object))
        longest = max(0, min(_ELEMENT, spec.max_nbytes // max(count, 1) - 4))
        made = np.empty(count, object)
        made[:] = [random.bytes(longest) for _ in range(count)]
        return made.reshape(shape)
    itemsize(spec.dtype)  # from here on numpy knows bfloat16 by its name
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "bui":
        # Small ones: most whole numbers are indices into something.
        most = 2 if dtype.kind == "b" else 256 if spec.dtype == "uint8" else 100
        return random.integers(0, most, shape).astype(dtype)
    return random.random(shape).astype(dtype)


def _read(spec: TensorSpec, path: Path) -> Any:
    """The value of an input that a file has.

    Raises:
        ConfigError: it has none.
    """
    try:
        fd, _ = open_file(path)
        with open(fd, "rb") as stream:
            start = stream.read(8)
            stream.seek(0)
            if is_array_file(start):
                value: Any = read_arrays(stream, [spec])[spec.name]
                return parse_json(value.tobytes()) if spec.dtype == JSON else value
            data = stream.read()
        if spec.dtype == JSON:
            return parse_json(data)
        array = _of_bytes(spec, path, data)
    except OSError as error:
        raise ConfigError(f"--input {spec.name}={path}: cannot be read: {error.strerror or error}") from None
    except InvalidRequest as error:
        raise ConfigError(f"--input {spec.name}={path}: {error}") from None
    stored = (*array.shape, 4 * array.size + len(data)) if spec.dtype == BYTES else array.shape
    if (why := spec.misfit(array.dtype.name if spec.dtype != BYTES else BYTES, stored)) is not None:
        raise ConfigError(f"--input {spec.name}={path}: {why}")
    return array


def _of_bytes(spec: TensorSpec, path: Path, data: bytes) -> Array:
    if spec.dtype == BYTES and all(isinstance(extent, str) or extent == 1 for extent in spec.shape):
        element = np.empty((1,) * len(spec.shape), object)
        element[...] = data
        return element
    if spec.dtype == "uint8" and len(spec.shape) == 1:
        return np.frombuffer(data, np.uint8)
    if spec.dtype == "uint8" and len(spec.shape) in (2, 3):
        return _pixels(spec, path, data)
    raise ConfigError(f"--input {spec.name}={path}: expected a .npy file with {spec}, found another file")


def _pixels(spec: TensorSpec, path: Path, data: bytes) -> Array:
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError  # which no other siege should wait for

    grey = len(spec.shape) == 2 or spec.shape[2] == 1
    try:
        with Image.open(BytesIO(data)) as picture:
            pixels = np.array(picture.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        found = f"expected a .npy file or a picture for {spec}: {error}"
        raise ConfigError(f"--input {spec.name}={path}: {found}") from None
    return pixels[..., None] if grey and len(spec.shape) == 3 else pixels
