"""Outgoing: the arrays of a call to requests of KServe. Pure.

    the server has a batch axis     one request: [1, ...]     a batch of n: [n, ...], in pieces of max_batch_size
    it has none                     one request: [...]        a batch of n: n requests

Tensors are views of the caller's arrays where these are dense and little endian; BYTES and JSON are encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.client.batches import requests_of
from pipeline.client.inputs import arrays_of, misfit_of
from pipeline.errors import InvalidRequest
from pipeline.kserve.datatypes import BYTES as STRINGS
from pipeline.kserve.datatypes import OF_DTYPE, joined
from pipeline.kserve.parameters import EMPTY_FINAL, kserve_priority
from pipeline.kserve.values import InferRequest, InferTensor, Parameter
from pipeline.remote.description import Description
from pipeline.wire.interface import Tensor
from shm.handle import BYTES, JSON, numpy_dtype

__all__ = ["check_options", "pieces_of", "rows_of_call", "scheduling"]

Array = NDArray[Any]


def check_options(deadline_ms: object, priority: object, retries: object) -> None:
    """
    Raises:
        InvalidRequest: an option of a call is not what it must be.
    """
    if (why := misfit_of(deadline_ms, priority)) is not None:
        raise InvalidRequest(why)
    if type(retries) is not int or retries < 0:
        raise InvalidRequest(f"retries: expected how often to send it again, 0 or more, found {retries!r}")


def scheduling(deadline_ms: float | None, priority: int, *, in_parts: bool = False) -> dict[str, Parameter]:
    """The parameters of a request that say when it runs."""
    found: dict[str, Parameter] = {}
    if deadline_ms is not None:
        # Microseconds; 0 would be none.
        found["timeout"] = max(1, int(deadline_ms * 1e3))
    if priority:
        found["priority"] = kserve_priority(int(priority))
    if in_parts:
        found[EMPTY_FINAL] = True
    return found


def rows_of_call(description: Description, given: Mapping[str, Any]) -> tuple[list[dict[str, Array]], bool]:
    """The rows of a call, and whether they are a batch.

    Raises:
        InvalidRequest: they do not fit the model's inputs.
    """
    return requests_of(description.specs, given)


def pieces_of(
    description: Description,
    rows: Sequence[Mapping[str, Array]],
    request_id: str,
    parameters: Mapping[str, Parameter],
    given: Mapping[str, Any] | None = None,
) -> list[tuple[InferRequest, int]]:
    """The requests of rows, and how many rows each of them has.

    Args:
        rows: as `rows_of_call` makes them.
        given: of a batch the caller's values, of which the rows are views: so no row is copied.
    """
    most = description.max_batch_size
    size = min(most, len(rows)) if most else 1
    whole = {} if given is None or not most else _whole_arrays(description, given)
    pieces: list[tuple[InferRequest, int]] = []
    for start in range(0, len(rows), size):
        end = min(start + size, len(rows))
        inputs = tuple(
            [
                _tensor_of(tensor, rows[start:end], whole.get(tensor.name), start, bool(most))
                for tensor in description.interface.inputs
            ]
        )
        named = request_id if len(rows) <= size else f"{request_id}/{len(pieces)}"
        request = InferRequest(
            description.name, description.version, inputs, (), named, parameters, binary_output=True
        )
        pieces.append((request, end - start))
    return pieces


def _whole_arrays(description: Description, given: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a batch whose elements lie as they are sent."""
    specs = {name: spec for name, spec in description.specs.items() if spec.dtype not in (BYTES, JSON)}
    return {name: arrays_of({name: spec}, {name: given[name]})[name] for name, spec in specs.items()}


def _tensor_of(
    tensor: Tensor, rows: Sequence[Mapping[str, Array]], whole: Array | None, start: int, batched: bool
) -> InferTensor:
    kind = OF_DTYPE[tensor.dtype]
    lead = (len(rows),) if batched else ()
    columns = [row[tensor.name] for row in rows]
    if tensor.dtype == JSON:
        return _encoded(tensor.name, (*lead, 1), [column.tobytes() for column in columns])
    if kind.name == STRINGS:
        shapes = {column.shape for column in columns}
        if len(shapes) > 1:
            raise _uneven(tensor.name, columns)
        elements = [each for column in columns for each in column.ravel().tolist()]
        return _encoded(tensor.name, (*lead, *columns[0].shape), elements)
    if len({column.shape for column in columns}) > 1:
        raise _uneven(tensor.name, columns)
    if whole is not None:
        array = whole[start : start + len(rows)]
    else:
        array = columns[0] if len(rows) == 1 else np.stack(columns)
    # In the order of bytes that KServe has: a caller's array may have the other one, which a slot takes as well.
    dense = np.ascontiguousarray(array, numpy_dtype(tensor.dtype))
    shape = (*lead, *columns[0].shape)
    # Of bytes: memoryview knows neither bfloat16 nor how to cast an empty array.
    return InferTensor(tensor.name, kind.name, shape, dense.reshape(-1).view(np.uint8).data)


def _encoded(name: str, shape: tuple[int, ...], elements: Sequence[bytes]) -> InferTensor:
    data = memoryview(joined(elements))
    return InferTensor(name, STRINGS, shape, data, copied=data.nbytes)


def _uneven(name: str, columns: Sequence[Array]) -> InvalidRequest:
    shapes = sorted({column.shape for column in columns})
    return InvalidRequest(
        f"input {name!r}: rows of different shapes, {list(shapes[0])} and {list(shapes[1])}, are no one tensor: send "
        f"them by infer_many"
    )
