"""Inputs of a request: a caller's values as arrays of the pipeline's specs, and where they lie in a slot. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest
from pipeline.wire.limits import LOWEST_PRIORITY
from shm.handle import JSON, itemsize
from shm.layout import round_up
from stages.errors import SpecMismatch
from stages.spec import TensorSpec, extents_of

__all__ = ["arrays_of", "given_of", "lay_out", "limit_of", "misfit_of"]

_LONGEST_S = 1e7
_LONGEST_DEADLINE_MS = 86_400_000.0

Array = NDArray[Any]


def given_of(specs: Mapping[str, TensorSpec], inputs: object, keywords: dict[str, Any]) -> dict[str, Any]:
    """A caller's values for all inputs, as one mapping, so that an input may have the name of a parameter of the call.

    Args:
        inputs: a mapping by input name, or None.
        keywords: the same by keyword. `inputs` among them is the mapping too, unless the pipeline has an input of that
            name: then it is that input.

    Raises:
        InvalidRequest: `inputs` is no mapping, or an input is given twice.
    """
    if "inputs" in keywords and "inputs" not in specs:
        if inputs is not None:
            raise InvalidRequest("two mappings of inputs were given, one of them by `inputs=`; give one")
        keywords = {**keywords}
        inputs = keywords.pop("inputs")
    if inputs is None:
        return keywords
    if not isinstance(inputs, Mapping):
        raise InvalidRequest(
            f"inputs: expected a mapping such as {{{next(iter(specs), 'name')!r}: ...}}, found {type(inputs).__name__}"
        )
    if twice := [name for name in keywords if name in inputs]:
        raise InvalidRequest(
            f"input {twice[0]!r} was given twice, in the mapping `inputs` and by keyword; give it once"
        )
    return {**inputs, **keywords}


def arrays_of(specs: Mapping[str, TensorSpec], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays by input name: of arrays and what numpy makes arrays of, of bytes, and of JSON values.

    Raises:
        InvalidRequest: an input is missing or unknown, or a value has another dtype than its input, or no JSON form.
    """
    # First: the advice on a value would mislead if it is the name that is wrong.
    _refuse_other_names(specs, inputs)
    arrays: dict[str, Array] = {}
    for name, value in inputs.items():
        spec = specs[name]
        if spec.dtype == JSON:
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
            if isinstance(value, (str, PurePath)):
                raise InvalidRequest(
                    f"input {name!r}: expected bytes or an array, found {type(value).__name__}; "
                    f"of a file that is Path(...).read_bytes()"
                )
        if spec.dtype not in (JSON, arrays[name].dtype.name):
            raise InvalidRequest(f"input {name!r}: expected dtype {spec.dtype}, found {arrays[name].dtype.name}")
    return arrays


def lay_out(
    specs: Mapping[str, TensorSpec], shapes: Mapping[str, Any]
) -> tuple[list[tuple[int, str, tuple[int, ...]]], int]:
    """Where inputs of these shapes lie in a slot: (offset, dtype, shape) of each, and the bytes of all of them.

    Raises:
        InvalidRequest: an input is missing or unknown, or a shape does not fit its spec.
    """
    _refuse_other_names(specs, shapes)
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
        offset += round_up(nbytes)
    return layout, offset


def _refuse_other_names(specs: Mapping[str, TensorSpec], given: Mapping[str, Any]) -> None:
    if given.keys() != specs.keys():
        raise InvalidRequest(f"expected the inputs {', '.join(specs)}; found {', '.join(map(str, given)) or 'none'}")


def limit_of(timeout_s: float) -> float:
    """A caller's time limit in seconds; below 0 it is 0, and infinity is as good as a hundred days.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    if not _is_number(timeout_s) or timeout_s != timeout_s:
        raise InvalidRequest(f"timeout_s: expected a number of seconds, or None, found {timeout_s!r}")
    return min(max(0.0, float(timeout_s)), _LONGEST_S)


def misfit_of(deadline_ms: object, priority: object) -> str | None:
    """Why a deadline or a priority is wrong, before it gets to the wire; None if both are right."""
    if deadline_ms is not None and not (_is_number(deadline_ms) and 0 < deadline_ms <= _LONGEST_DEADLINE_MS):
        return f"deadline_ms: expected above 0 and at most {_LONGEST_DEADLINE_MS:.0f}, found {deadline_ms!r}"
    whole = isinstance(priority, (int, np.integer)) and not isinstance(priority, bool)
    if not whole or not 0 <= priority <= LOWEST_PRIORITY:  # type: ignore[operator]
        return f"priority: expected a priority 0..{LOWEST_PRIORITY}, found {priority!r}"
    return None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
