"""Incoming: the responses of a server to values, the same as those of a pipeline of this host. Pure.

Nothing in a response is believed: names, datatypes, shapes and bytes are compared with the interface before an array is
made. Arrays are read-only views of the response's bytes; a batch that was sent in several pieces is joined (a copy).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES as STRINGS
from pipeline.kserve.datatypes import OF_DTYPE, element_views, expected_nbytes
from pipeline.kserve.model import dims_of
from pipeline.kserve.values import InferResponse, InferTensor
from pipeline.remote.description import Description
from pipeline.wire.interface import Interface, Tensor
from shm.handle import BYTES, JSON, numpy_dtype

__all__ = ["Columns", "column_values", "joined_batch", "one_row", "row_of"]

Array = NDArray[Any]
Columns = dict[str, Any]
"""By output name, the values of all rows of one response: an array (rows, ...), or of dtype "json" a list."""


def column_values(description: Description, response: InferResponse, rows: int) -> Columns:
    """The values of a response, by output name. An output that it does not have was skipped.

    Args:
        rows: of the request.

    Raises:
        KserveError: it is not what the model says of itself (INTERNAL).
    """
    known = {tensor.name: tensor for tensor in description.interface.outputs}
    values: Columns = {}
    for output in response.outputs:
        tensor = known.get(output.name)
        if tensor is None:
            raise _wrong(f"expected the outputs {', '.join(known)}, found {output.name[:200]!r}")
        if output.name in values:
            raise _wrong(f"output {output.name!r} came twice")
        values[output.name] = _values(tensor, output, rows, bool(description.max_batch_size))
    # In the order of the interface, which is that of a pipeline's result.
    return {name: values[name] for name in known if name in values}


def _values(tensor: Tensor, output: InferTensor, rows: int, batched: bool) -> Any:
    label = f"output {tensor.name!r}"
    kind = OF_DTYPE[tensor.dtype]
    if output.datatype != kind.name:
        raise _wrong(f"{label}: expected {kind.name}, found {output.datatype}")
    if output.data is None:
        raise _wrong(f"{label}: it lies in shared memory that it was not asked to write")
    dims = dims_of(tensor)
    expected = (rows, *dims) if batched else dims
    shape = output.shape
    if len(shape) != len(expected) or any(want not in (-1, found) for want, found in zip(expected, shape)):
        raise _wrong(f"{label}: expected shape {list(expected)}, found {list(shape)}")
    nbytes = expected_nbytes(kind, shape)
    if nbytes is not None and nbytes != output.data.nbytes:
        raise _wrong(f"{label}: expected {nbytes} bytes for shape {list(shape)}, found {output.data.nbytes}")
    whole = shape if batched else (1, *shape)
    if kind.name != STRINGS:
        dtype = numpy_dtype(tensor.dtype)
        # numpy makes no array of an empty buffer.
        flat = np.frombuffer(output.data, dtype) if output.data.nbytes else np.empty(0, dtype)
        array: Array = flat.reshape(whole)
        array.flags.writeable = False
        return array
    try:
        elements = element_views(output.data, math.prod(shape), label)
    except KserveError as error:
        raise _wrong(str(error)) from None
    if tensor.dtype == JSON:
        return [_document(element, label) for element in elements]
    texts = np.empty(len(elements), object)
    for number, element in enumerate(elements):
        texts[number] = bytes(element)
    texts = texts.reshape(whole)
    texts.flags.writeable = False
    return texts


def _document(element: memoryview, label: str) -> Any:
    try:
        return json.loads(bytes(element))
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{label}: expected a JSON document: {error}") from None


def _wrong(why: str) -> KserveError:
    return KserveError(f"the server's answer is not what its model says of itself: {why}", "INTERNAL")


def one_row(columns: Columns) -> dict[str, Any]:
    """The values of the only row."""
    return {name: row_of(values, 0) for name, values in columns.items()}


def row_of(values: Any, number: int) -> Any:
    """The value of one row."""
    return values[number] if isinstance(values, list) else _row(values, number)


def _row(values: Array, number: int) -> Array:
    # Not values[number], which is a number, and no array, if the shape is [].
    return values[number : number + 1].reshape(values.shape[1:])


def joined_batch(interface: Interface, pieces: Sequence[tuple[Columns, int]]) -> tuple[dict[str, Any], int]:
    """The answers of a batch as one, by output name, and the bytes that were copied; as `client.batches.stacked`.

    Args:
        pieces: the values of each response, and how many rows it has.
    """
    values: dict[str, Any] = {}
    copied = 0
    for tensor in interface.outputs:
        name = tensor.name
        if not any(name in columns for columns, _ in pieces):
            continue
        every = all(name in columns for columns, _ in pieces)
        if tensor.dtype == JSON:
            values[name] = [each for columns, rows in pieces for each in columns.get(name, [None] * rows)]
        elif every and not _is_free(tensor):
            arrays = [columns[name] for columns, _ in pieces]
            array = arrays[0]
            if len(arrays) > 1:
                array = np.concatenate(arrays)
                array.flags.writeable = False
                copied += array.nbytes
            values[name] = array
        else:
            values[name] = [each for columns, rows in pieces for each in _rows(columns, name, rows)]
    return values, copied


def _rows(columns: Mapping[str, Any], name: str, rows: int) -> list[Any]:
    return [_row(columns[name], number) for number in range(rows)] if name in columns else [None] * rows


def _is_free(tensor: Tensor) -> bool:
    axes = tensor.axes[:-1] if tensor.dtype == BYTES else tensor.axes
    return any(axis.name for axis in axes)
