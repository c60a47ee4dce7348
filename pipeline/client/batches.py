"""Batches: which arrays of a call are one request, and which are many; and the answers of many as one. Pure.

    input of shape [1, 28, 28]      found (1, 28, 28)       one request
                                    found (8, 1, 28, 28)    a batch: one request, if it may carry so many rows
                                                            several, as even as can be, if it may carry fewer
                                                            eight, of one row each, if rows cannot go together
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
from shm.layout import ceil_div
from shm.view import rows_of
from stages.spec import TensorSpec

__all__ = ["evenly", "joined", "of_row", "of_rows", "requests_of", "stacked"]

Array = NDArray[Any]


def requests_of(
    specs: Mapping[str, TensorSpec], given: Mapping[str, Any], most: int = 1
) -> tuple[list[dict[str, Array]], bool]:
    """The requests of a call, each as arrays by input name, and whether they are a batch.

    A batch has one dimension more than the spec, in front, in every input; a "json" input of a batch is a list of as
    many values. The rows are views of the caller's arrays.

    Args:
        most: how many rows one request may carry; if several, the requests of a batch have the dimension too.

    Raises:
        InvalidRequest: an input is missing or unknown, a dtype or a shape is another than expected, or the inputs of a
            batch have different lengths.
    """
    arrays = arrays_of(specs, given)
    count = _rows_in(specs, arrays)
    if count is None:
        lay_out_arrays(specs, arrays)
        return [arrays], False
    if most > 1:
        pieces = []
        start = 0
        for size in evenly(count, most):
            pieces.append({name: array[start : start + size] for name, array in arrays.items()})
            start += size
        # All rows of an array are of one shape.
        lay_out_arrays(specs, pieces[0], most)
        return pieces, True
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


def evenly(rows: int, most: int) -> list[int]:
    """So many rows in as few requests of at most `most` rows as can be, the numbers of which differ by one at most."""
    requests = ceil_div(rows, most)
    least, more = divmod(rows, requests)
    return [least + (number < more) for number in range(requests)]


def of_rows(error: RequestError, number: int, sizes: Sequence[int]) -> RequestError:
    """The error of one of a batch's requests, as the error of the batch.

    Args:
        number: of the request.
        sizes: how many rows each of them carries.
    """
    start, size, rows = sum(sizes[:number]), sizes[number], sum(sizes)
    if size == 1:
        return of_row(error, start, rows)
    # "row 2 of 4: ..." is what the request says of its own rows.
    text = str(error)
    row, _, rest = text.removeprefix("row ").partition(" of ")
    count, colon, why = rest.partition(": ")
    if text.startswith("row ") and row.isdecimal() and count.isdecimal() and colon:
        told = type(error)(why)
        told.__dict__.update(error.__dict__)
        told.__cause__ = error.__cause__
        return of_row(told, start + int(row), rows)
    if len(sizes) == 1:
        return error
    told = type(error)(f"rows {start} to {start + size - 1} of {rows}: {text}")
    told.__dict__.update(error.__dict__)
    told.__cause__ = error.__cause__
    return told


def joined(interface: Interface, results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """As `stacked`, of results that have an axis of rows."""
    values: dict[str, Any] = {}
    copied = 0
    for tensor in interface.outputs:
        array = np.concatenate([result[tensor.name] for result in results])
        array.flags.writeable = False
        values[tensor.name] = array
        copied += array.nbytes
    return values, copied


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
