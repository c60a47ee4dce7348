"""Arrays: the inputs of one request out of a .npy or .npz file, or out of JSON. Nothing is unpickled.

The header of a file is compared with the pipeline's inputs before its numbers are read: a file of
another kind costs no memory, however large it is. Arrays are never cast.

An input of dtype "bytes" takes an array of "S" or "U", whose texts become UTF-8, and texts in JSON. One of bfloat16
takes numbers in JSON, and an array of two bytes without a name, as which numpy writes it.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest
from pipeline.wire.documents import document_value
from shm.elements import elements_of, stored_shape
from shm.handle import BFLOAT16, BYTES, JSON, LENGTH_BYTES
from stages.spec import TensorSpec

__all__ = ["arrays_of_json", "is_array_file", "parse_json", "read_arrays"]

Array = NDArray[Any]

_NPY, _ZIP = b"\x93NUMPY", b"PK"
_CHUNK_BYTES = 1 << 20


def is_array_file(start: bytes) -> bool:
    """Whether a file that begins with these bytes claims to be a .npy or .npz file."""
    return start.startswith((_NPY, _ZIP))


def read_arrays(stream: IO[bytes], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The inputs out of a .npy file (a single input) or a .npz file (by name; more arrays do not matter).

    Raises:
        InvalidRequest: the file is damaged, or an array is missing or does not fit its input.
        OSError: the file cannot be read.
    """
    start = stream.read(len(_NPY))
    stream.seek(0)
    if start == _NPY:
        if len(inputs) != 1:
            names = ", ".join(spec.name for spec in inputs)
            raise InvalidRequest(f"expected a .npz file with the inputs {names}; found one array")
        return {inputs[0].name: _read_array(stream, inputs[0])}
    try:
        with zipfile.ZipFile(stream) as archive:
            names_found = [name.removesuffix(".npy") for name in archive.namelist()]
            if missing := sorted({spec.name for spec in inputs} - set(names_found)):
                found = ", ".join(names_found) or "none"
                raise InvalidRequest(f"no array {missing[0]!r} in the file; it has {found}")
            arrays = {}
            for spec in inputs:
                with archive.open(f"{spec.name}.npy") as member:
                    arrays[spec.name] = _read_array(member, spec)
            return arrays
    except (InvalidRequest, OSError):
        raise
    except Exception as error:  # damaged files make zipfile, zlib, lzma, struct and codecs raise many classes
        raise InvalidRequest(f"a damaged .npz file: {type(error).__name__}: {error}") from None


def _read_array(stream: IO[bytes], spec: TensorSpec) -> Array:
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format holds no plain numbers")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read_header(stream)
    except OSError:
        raise
    except Exception as error:  # the parser of headers raises many classes: tokenize, ast, struct
        raise InvalidRequest(f"input {spec.name!r}: a damaged .npy file: {type(error).__name__}: {error}") from None
    if dtype.hasobject:
        hint = "; of elements of bytes make an array of 'S'" if spec.dtype == BYTES else ""
        raise InvalidRequest(f"input {spec.name!r}: expected dtype {_numpy_name(spec)}, found Python objects{hint}")
    if spec.dtype == BYTES and dtype.kind in "SU":
        return _read_elements(stream, spec, shape[::-1] if columns_first else shape, columns_first, dtype)
    if spec.dtype == BFLOAT16 and dtype.kind == "V" and dtype.itemsize == 2 and dtype.fields is None:
        dtype = np.dtype(BFLOAT16)
    if (why := _misfit(spec, dtype.name, shape)) is not None:
        raise InvalidRequest(f"input {spec.name!r}: {why}")
    array: Array = np.empty(shape[::-1] if columns_first else shape, dtype)
    if array.size:
        _read_into(stream, spec, array.reshape(-1).view(np.uint8).data)
    return array.T if columns_first else array


def _read_into(stream: IO[bytes], spec: TensorSpec, memory: memoryview) -> None:
    # Not one single `readinto`: a member of a .npz file gives only what it has just unpacked.
    filled = 0
    while filled < len(memory):
        chunk = stream.read(min(len(memory) - filled, _CHUNK_BYTES))
        if not chunk:
            raise InvalidRequest(f"input {spec.name!r}: the file is cut: {filled} of {len(memory)} bytes of the array")
        memory[filled : filled + len(chunk)] = chunk
        filled += len(chunk)


def _read_elements(
    stream: IO[bytes], spec: TensorSpec, shape: tuple[int, ...], columns_first: bool, dtype: np.dtype[Any]
) -> Array:
    """Elements of equal length, the shorter ones filled up with NULs, as elements of bytes.

    Only so much is read at once that a file may be as large as it likes: nearly all of it may be NULs.

    Args:
        shape: of the array as it lies in the file.
    """

    def refuse(why: str) -> InvalidRequest:
        return InvalidRequest(f"input {spec.name!r}: {why}")

    count, most = math.prod(shape), spec.max_nbytes
    if (why := spec.misfit(BYTES, (*(shape[::-1] if columns_first else shape), count * LENGTH_BYTES))) is not None:
        raise refuse(why)
    longest = dtype.itemsize // (4 if dtype.kind == "U" else 1)
    if longest > most:
        raise refuse(f"expected at most {most} bytes in all, found elements of up to {longest}")
    array, done, nbytes = np.empty(count, object), 0, count * LENGTH_BYTES
    array[:] = b""
    while done < count and dtype.itemsize:
        part = np.empty(min(count - done, max(1, _CHUNK_BYTES // dtype.itemsize)), dtype)
        _read_into(stream, spec, part.view(np.uint8).data)
        try:
            elements = elements_of(part)
        except ValueError as error:
            raise refuse(str(error)) from None
        nbytes += stored_shape(elements)[-1] - LENGTH_BYTES * elements.size
        if nbytes > most:
            raise refuse(f"expected at most {most} bytes in all, with {LENGTH_BYTES} for each length; found more")
        array[done : done + len(part)] = elements
        done += len(part)
    array = array.reshape(shape)
    return array.T if columns_first else array


def _numpy_name(spec: TensorSpec) -> str:
    return "uint8" if spec.dtype == JSON else spec.dtype


def _misfit(spec: TensorSpec, dtype: str, shape: tuple[int, ...]) -> str | None:
    # The bytes of a JSON document are an array of uint8. Big-endian numbers have the same name, and are not swapped.
    if dtype != _numpy_name(spec):
        return f"expected dtype {_numpy_name(spec)}, found {dtype}"
    return spec.misfit(spec.dtype, shape)


# -- JSON -------------------------------------------------------------------------------------------


def parse_json(data: bytes) -> Any:
    """The value of one JSON document.

    Raises:
        InvalidRequest: the text is not one JSON document; Python's NaN and Infinity are not JSON.
    """
    try:
        return document_value(data)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"expected JSON in UTF-8, found the byte 0x{data[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"expected one JSON document: {error.msg} at {where}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"expected one JSON document: {error}") from None


def arrays_of_json(data: bytes, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The inputs out of one JSON document.

    A single input of dtype "json" takes the document as it is. Otherwise the document is an object with each input by
    name, and nested lists for an array; a single input may be given without its name.

    Raises:
        InvalidRequest: the text is not JSON, or an input is missing, unknown, or does not fit.
    """
    value = parse_json(data)
    if len(inputs) == 1 and inputs[0].dtype == JSON:
        return {inputs[0].name: _bytes_of(inputs[0], data.decode("utf-8-sig").strip().encode())}
    names = [spec.name for spec in inputs]
    if len(inputs) == 1 and not isinstance(value, dict):
        value = {names[0]: value}
    if not isinstance(value, dict) or set(value) != set(names):
        found = f"the keys {', '.join(map(str, value)) or 'none'}" if isinstance(value, dict) else type(value).__name__
        raise InvalidRequest(f"expected a JSON object with the keys {', '.join(names)}; found {found}")
    return {
        spec.name: _bytes_of(spec, json.dumps(value[spec.name]).encode())
        if spec.dtype == JSON
        else _elements_of(spec, value[spec.name])
        if spec.dtype == BYTES
        else _array_of(spec, value[spec.name])
        for spec in inputs
    }


def _bytes_of(spec: TensorSpec, document: bytes) -> Array:
    if (why := spec.misfit(spec.dtype, (len(document),))) is not None:
        raise InvalidRequest(f"input {spec.name!r}: {why}")
    return np.frombuffer(document, np.uint8)


def _elements_of(spec: TensorSpec, value: Any) -> Array:
    """Nested lists of texts as elements of bytes in UTF-8."""
    try:
        array = elements_of(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"input {spec.name!r}: {error}") from None
    array = array.reshape(_completed(spec, array.shape))
    if (why := spec.misfit(spec.dtype, stored_shape(array))) is not None:
        raise InvalidRequest(f"input {spec.name!r}: {why}")
    return array


def _completed(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array in JSON, which has no place for the axes behind an empty one."""
    if 0 not in shape or len(shape) >= len(spec.shape):
        return shape
    return (*shape, *[extent if isinstance(extent, int) else 0 for extent in spec.shape[len(shape) :]])


def _array_of(spec: TensorSpec, value: Any) -> Array:
    """Nested lists of numbers as an array of the input's dtype. A decimal number becomes the nearest one of it."""

    def refuse(why: str) -> InvalidRequest:
        return InvalidRequest(f"input {spec.name!r}: {why}")

    try:
        found = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise refuse(f"expected nested lists of equal lengths: {error}") from None
    if not found.size:
        found = found.astype(spec.dtype).reshape(_completed(spec, found.shape))
    want = np.dtype(spec.dtype)
    kind = "f" if spec.dtype == BFLOAT16 else want.kind
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}.get(kind, "")
    if found.size and found.dtype.kind not in kinds:
        of = {"b": "true and false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}.get(kind)
        raise refuse(f"expected {of or f'a .npy file, for JSON has no {want.name}'} in {spec.describe()}")
    if (why := spec.misfit(spec.dtype, found.shape)) is not None:
        raise refuse(why)
    if want.kind in "iu" and found.size:
        least, most = int(found.min()), int(found.max())
        if least < np.iinfo(want).min or most > np.iinfo(want).max:
            raise refuse(f"expected numbers that {want.name} can hold, found {least} to {most}")
    with np.errstate(over="ignore"):
        array = found.astype(want)
    if kind == "f" and not np.isfinite(array).all():
        raise refuse(f"expected numbers that {want.name} can hold, found up to {float(np.abs(found).max()):g}")
    return array
