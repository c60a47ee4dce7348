"""Conversion: an admitted request to the arrays of the pipeline's requests, and results to tensors of a response. Pure.

    with a batch axis     n rows ──▶ a request of n rows, or several of fewer ──▶ their results ──▶ tensors of n rows
                          n rows ──▶ n requests, if a request carries one row ──▶ n results     ──▶ tensors of n rows
    without               the request                                         ──▶ its result    ──▶ tensors

Arrays of fixed-size elements are views of the request's bytes, and tensors are views of the results' arrays, except for
those of several results, which are put together. Elements of BYTES become objects, and are encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.batches import evenly
from pipeline.errors import KserveError
from pipeline.kserve.admission import Admitted, AdmittedInput, elements_in
from pipeline.kserve.classification import classified
from pipeline.kserve.datatypes import BYTES, joined
from pipeline.kserve.model import Model, datatype_of
from pipeline.kserve.values import InferTensor, RequestedOutput
from pipeline.wire.documents import document_value
from pipeline.wire.interface import Tensor
from shm.handle import JSON, numpy_dtype

__all__ = ["rows_of", "tensors_of", "together_of"]

Array = NDArray[Any]


def rows_of(admitted: Admitted, data: Mapping[str, memoryview]) -> list[dict[str, Array]]:
    """The inputs of each of the pipeline's requests, by name, as `client.inputs.arrays_of` would make them.

    Args:
        data: the bytes of each input, by name.

    Raises:
        KserveError: elements that do not add up, or text that is no JSON.
    """
    rows: list[dict[str, Array]] = [{} for _ in range(admitted.rows)]
    for entry in admitted.inputs:
        name = entry.tensor.name
        for row, array in zip(rows, _columns_of(entry, admitted.rows, data[name])):
            row[name] = array
    return rows


def together_of(
    admitted: Admitted, data: Mapping[str, memoryview], most: int
) -> list[tuple[int, dict[str, Array]]]:
    """As `rows_of`, of requests that carry several rows of fixed shapes: how many each has, and its inputs, with an
    axis for them in front.

    Args:
        most: how many rows one request may carry.
    """
    whole = {}
    for entry in admitted.inputs:
        found, dtype = data[entry.tensor.name], numpy_dtype(entry.tensor.dtype)
        flat = np.frombuffer(found, dtype) if found.nbytes else np.empty(0, dtype)
        whole[entry.tensor.name] = flat.reshape(admitted.rows, *entry.shape)
    pieces = []
    start = 0
    for rows in evenly(admitted.rows, most):
        pieces.append((rows, {name: array[start : start + rows] for name, array in whole.items()}))
        start += rows
    return pieces


def _columns_of(entry: AdmittedInput, rows: int, data: memoryview) -> list[Array]:
    if datatype_of(entry.tensor).name != BYTES:
        dtype = numpy_dtype(entry.tensor.dtype)
        # numpy makes no array of an empty buffer.
        flat = np.frombuffer(data, dtype) if data.nbytes else np.empty(0, dtype)
        table = flat.reshape(rows, entry.count)
        # Not table[row], which is a number, and no array, if the shape is [].
        return [table[row : row + 1].reshape(entry.shape) for row in range(rows)]
    elements = elements_in(entry, rows, data)
    if entry.tensor.dtype == JSON:
        return [np.frombuffer(_checked_json(element, entry.tensor), np.uint8) for element in elements]
    columns = []
    for row in range(rows):
        column = np.empty(entry.count, object)
        for number, element in enumerate(elements[row * entry.count : (row + 1) * entry.count]):
            column[number] = bytes(element)
        columns.append(column.reshape(entry.shape))
    return columns


def _checked_json(element: memoryview, tensor: Tensor) -> memoryview:
    try:
        document_value(bytes(element))
    except (ValueError, RecursionError) as error:
        raise KserveError(f"inference input {tensor.name!r}: expected a JSON document: {error}") from None
    return element


def tensors_of(
    model: Model, outputs: Sequence[RequestedOutput], results: Sequence[Mapping[str, Any]], together: bool = False
) -> tuple[InferTensor, ...]:
    """The outputs of a response. One that was skipped for all rows is not among them.

    Args:
        results: of each row, the values by name (see `client.result.Result`).
        together: they are of requests of several rows, and their arrays have an axis for them.

    Raises:
        KserveError: rows that are no one tensor: of different shapes, or skipped for some of them (UNIMPLEMENTED).
    """
    by_name = {tensor.name: tensor for tensor in model.interface.outputs}
    tensors = []
    for output in outputs:
        values = [result[output.name] for result in results if output.name in result]
        if not values:
            continue
        if len(values) < len(results):
            raise KserveError(
                f"output {output.name!r}: {len(values)} of {len(results)} rows have it, and the others were skipped, "
                f"which is no tensor: send one row at a time",
                "UNIMPLEMENTED",
            )
        if together:
            tensor = _whole_of(by_name[output.name], values)
        else:
            tensor = _tensor_of(by_name[output.name], values, batched=bool(model.max_batch_size))
        tensors.append(classified(tensor, output.classes, bool(model.max_batch_size)) if output.classes else tensor)
    return tuple(tensors)


def _whole_of(tensor: Tensor, values: Sequence[Array]) -> InferTensor:
    """A tensor of all rows, of arrays of some of them each."""
    whole = np.ascontiguousarray(values[0]) if len(values) == 1 else np.concatenate(values)
    copied = 0 if len(values) == 1 else whole.nbytes
    data = whole.reshape(-1).view(np.uint8).data
    return InferTensor(tensor.name, datatype_of(tensor).name, whole.shape, data, copied=copied)


def _tensor_of(tensor: Tensor, values: Sequence[Any], *, batched: bool) -> InferTensor:
    kind = datatype_of(tensor)
    lead = (len(values),) if batched else ()
    if tensor.dtype == JSON:
        data = memoryview(joined([json.dumps(value).encode() for value in values]))
        return InferTensor(tensor.name, kind.name, (*lead, 1), data, copied=data.nbytes)
    arrays = [np.asarray(value) for value in values]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise KserveError(
            f"output {tensor.name!r}: rows of different shapes, {list(shapes[0])} and {list(shapes[1])}, are no one "
            f"tensor: send one row at a time",
            "UNIMPLEMENTED",
        )
    shape = (*lead, *shapes[0])
    if kind.name == BYTES:
        data = memoryview(joined([element for array in arrays for element in array.ravel().tolist()]))
        return InferTensor(tensor.name, kind.name, shape, data, copied=data.nbytes)
    whole = np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.stack(arrays)
    copied = 0 if len(arrays) == 1 else whole.nbytes
    # Of bytes: memoryview knows neither bfloat16 nor how to cast an empty array.
    return InferTensor(tensor.name, kind.name, shape, whole.reshape(-1).view(np.uint8).data, copied=copied)
