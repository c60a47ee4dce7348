"""A request's inputs: what a caller gives, as arrays of the pipeline's specs, and where they lie in a slot. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest
from shm.handle import JSON, itemsize
from shm.layout import ALIGNMENT
from stages.errors import SpecMismatch
from stages.spec import TensorSpec, extents_of

__all__ = ["arrays_of", "lay_out"]

Array = NDArray[Any]


def arrays_of(specs: Mapping[str, TensorSpec], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays by input name: of arrays and what numpy makes arrays of, of bytes, and of JSON values.

    Raises:
        InvalidRequest: a value has another dtype than its input, or no JSON form.
    """
    arrays: dict[str, Array] = {}
    for name, value in inputs.items():
        spec = specs.get(name)
        if spec is not None and spec.dtype == JSON:
            try:
                arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidRequest(f"input {name!r}: no JSON value: {error}") from error
        elif isinstance(value, (bytes, bytearray, memoryview)):
            arrays[name] = np.frombuffer(value, np.uint8)
        else:
            try:
                arrays[name] = np.asarray(value)
            except (TypeError, ValueError) as error:
                raise InvalidRequest(f"input {name!r}: no array: {error}") from error
        if spec is not None and spec.dtype not in (JSON, arrays[name].dtype.name):
            raise InvalidRequest(f"input {name!r}: expected dtype {spec.dtype}, found {arrays[name].dtype.name}")
    return arrays


def lay_out(
    specs: Mapping[str, TensorSpec], shapes: Mapping[str, Any]
) -> tuple[list[tuple[int, str, tuple[int, ...]]], int]:
    """Where inputs of these shapes lie in a slot: (offset, dtype, shape) of each, and the bytes of all of them.

    Raises:
        InvalidRequest: an input is missing or unknown, or a shape does not fit its spec.
    """
    if shapes.keys() != specs.keys():
        raise InvalidRequest(f"expected the inputs {', '.join(specs)}; found {', '.join(shapes) or 'none'}")
    offset = 0
    layout: list[tuple[int, str, tuple[int, ...]]] = []
    for name, spec in specs.items():
        try:
            shape = extents_of(shapes[name])
        except SpecMismatch as error:
            raise InvalidRequest(f"input {name!r}: {error}") from None
        if (why := spec.misfit(spec.dtype, shape)) is not None:
            raise InvalidRequest(f"input {name!r}: {why}")
        layout.append((offset, spec.dtype, shape))
        nbytes = itemsize(spec.dtype)
        for extent in shape:
            nbytes *= extent
        offset += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return layout, offset
