"""Batches: which arrays of a call are one request, and which are many; and the answers of many as one. Pure.

    input of shape [1, 28, 28]      found (1, 28, 28)       one request
                                    found (8, 1, 28, 28)    a batch: eight requests, each with one row of every input
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.inputs import arrays_of, lay_out_arrays
from pipeline.errors import InvalidRequest, RequestError
from pipeline.wire.interface import Interface, Tensor
from shm.handle import BYTES, ENCODED, JSON
from shm.view import rows_of
from stages.spec import TensorSpec

__all__ = ["of_row", "requests_of", "stacked"]

Array = NDArray[Any]


def requests_of(specs: Mapping[str, TensorSpec], given: Mapping[str, Any]) -> tuple[list[dict[str, Array]], bool]:
    """The requests of a call, each as arrays by input name, and whether they are a batch.

    A batch has one dimension more than the spec, in front, in every input; a "json" input of a batch is a list of as
    many values. The rows are views of the caller's arrays.

    Raises:
        InvalidRequest: an input is missing or unknown, a dtype or a shape is another than expected, or the inputs of a
            batch have different lengths.
    """
    arrays = arrays_of(specs, given)
    count = _rows_in(specs, arrays)
    if count is None:
        lay_out_arrays(specs, arrays)
        return [arrays], False
    rows: list[dict[str, Array]] = [{} for _ in range(count)]
    for name, spec in specs.items():
        column = _values_of(name, given[name], count, spec) if spec.dtype == JSON else rows_of(arrays[name])
        for row, array in zip(rows, column):
            row[name] = array
    # Only JSON values and elements of bytes differ in size.
    differ = any(spec.dtype in ENCODED for spec in specs.values())
    for number, row in enumerate(rows if differ else rows[:1]):
        try:
            lay_out_arrays(specs, row)
        except InvalidRequest as error:
            raise of_row(error, number, count) from None
    return rows, True


def _rows_in(specs: Mapping[str, TensorSpec], arrays: Mapping[str, Array]) -> int | None:
    """How many rows of a batch these arrays have; None: they are one request."""
    tensors = {name: array for name, array in arrays.items() if specs[name].dtype != JSON}
    batched = [name for name, array in tensors.items() if array.ndim == len(specs[name].shape) + 1]
    for name, array in tensors.items():
        if name not in batched and (batched or array.ndim != len(specs[name].shape)):
            why = _shape_error(specs[name], name, array)
            if batched:
                count = len(tensors[batched[0]])
                why += f"; {batched[0]!r} has {count} rows of a batch, so every input must have them"
            raise InvalidRequest(why)
    if not batched:
        return None
    count = len(tensors[batched[0]])
    for name, array in tensors.items():
        if len(array) != count:
            raise InvalidRequest(
                f"input {name!r}: expected {count} rows, as {batched[0]!r} has, found {len(array)}: all inputs of a "
                f"batch have the same number of rows"
            )
    if not count:
        raise InvalidRequest(f"input {batched[0]!r}: a batch of no rows, {list(tensors[batched[0]].shape)}")
    return count


def _values_of(name: str, values: object, count: int, spec: TensorSpec) -> list[Array]:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        found = f"{len(values)} of them" if isinstance(values, (list, tuple)) else type(values).__name__
        raise InvalidRequest(f"input {name!r}: expected a list of {count} values, one for each row, found {found}")
    return [arrays_of({name: spec}, {name: value})[name] for value in values]


def _shape_error(spec: TensorSpec, name: str, array: Array) -> str:
    shape = spec.describe()
    batch = f"[n, {shape[1:]}" if spec.shape else "[n]"
    return f"input {name!r}: expected shape {shape}, or {batch} for a batch of n requests, found {list(array.shape)}"


def of_row(error: RequestError, row: int, rows: int) -> RequestError:
    """The error of one request of a batch, as the error of the batch."""
    told = type(error)(f"row {row} of {rows}: {error}")
    told.__dict__.update(error.__dict__)
    told.__cause__ = error.__cause__
    return told


def stacked(interface: Interface, results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """The answers to a batch as one, by output name, and the bytes that were copied for it.

    An output of fixed shape is an array (n, *shape). A "json" output is a list of n values, an output with a free
    dimension a list of n arrays, and so is one that was skipped for some of the rows: those have None. An output that
    all of them lack is not there.
    """
    values: dict[str, Any] = {}
    copied = 0
    for tensor in interface.outputs:
        name = tensor.name
        there: list[Any] = [result[name] for result in results if name in result]
        if not there:
            continue
        if tensor.dtype == JSON:
            values[name] = [result.get(name) for result in results]
        elif len(there) < len(results) or _is_free(tensor):
            values[name] = [_copy(result[name]) if name in result else None for result in results]
            copied += sum([value.nbytes for value in there])
        else:
            array = np.stack(there)
            array.flags.writeable = False
            values[name] = array
            copied += array.nbytes
    return values, copied


def _is_free(tensor: Tensor) -> bool:
    # Elements of bytes are objects in an array, whatever they take in a slot.
    axes = tensor.axes[:-1] if tensor.dtype == BYTES else tensor.axes
    return any(axis.name for axis in axes)


def _copy(value: Array) -> Array:
    copy = np.array(value)
    copy.flags.writeable = False
    return copy
