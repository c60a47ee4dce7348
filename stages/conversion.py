"""Conversion: from what a stage writes or returns to the dtype of its output, or the reason why it does not fit.

    numbers    of another dtype, if each keeps its value, or floats lose only digits
    documents  any JSON value, as compact UTF-8
    elements   bytes of any length, and texts, which become UTF-8

Numbers that would be cut off, wrapped around, changed or become infinite are refused; the message has both dtypes and
one such number. A silent cast would be a wrong answer.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.elements import elements_of
from shm.handle import BFLOAT16, BYTES, JSON
from stages.errors import SpecMismatch
from stages.spec import TensorSpec

__all__ = ["encoded"]

Array = NDArray[Any]


def encoded(spec: TensorSpec, value: Any) -> Array:
    """One row's value for an output, as an array of its dtype; uint8 for JSON, objects for bytes.

    Raises:
        SpecMismatch: the value cannot be expressed in that dtype, or in JSON.
    """
    if spec.dtype == JSON:
        return _document(spec.name, value)
    if value is None:
        raise SpecMismatch(f"output {spec.name!r}: expected {spec.dtype} values, found None")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise SpecMismatch(f"output {spec.name!r}: a masked array has hidden values; fill them first")
    try:
        array = elements_of(value) if spec.dtype == BYTES else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise SpecMismatch(f"output {spec.name!r}: expected an array of {spec.dtype}: {error}") from error
    return array if spec.dtype == BYTES else _cast(spec.name, array, spec.dtype)


def _document(name: str, value: Any) -> Array:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        hint = "; .tolist() or .item() makes one of what numpy gives" if isinstance(error, TypeError) else ""
        if "float values" in str(error):
            hint = "; for NaN and infinity there is None"
        raise SpecMismatch(f"output {name!r}: no JSON value: {error}{hint}") from None
    return np.frombuffer(text, np.uint8)


def _cast(name: str, array: Array, dtype: str) -> Array:
    """`array` as `dtype`, if nothing is lost but the last digits of floats: silent casts hide bugs."""
    if array.dtype.name == dtype:
        return array
    wanted = np.dtype(dtype)
    if not (array.dtype.kind in "iu" and wanted.kind in "iu") and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise SpecMismatch(f"output {name!r}: expected dtype {dtype}, found {array.dtype.name}")
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
        if wanted.kind in "iu":
            kept = cast == array
        elif array.dtype.kind in "iu":
            # If a float cannot tell two whole numbers apart, an id would become another id.
            kept = _exact(cast, array)
        else:
            kept = np.isfinite(cast) | ~np.isfinite(array)
    if not np.all(kept):
        lost = array[~kept].ravel()[0].item()
        raise SpecMismatch(
            f"output {name!r}: found {array.dtype.name} values that do not fit into {dtype}, such as {lost!r}"
        )
    return cast


def _exact(cast: Array, array: Array) -> Array:
    """Whether each whole number is the same as a float."""
    digits = 7 if cast.dtype.name == BFLOAT16 else np.finfo(cast.dtype).nmant
    exact = 1 << (digits + 1)
    within = (array <= exact) & (array >= (0 if array.dtype.kind == "u" else -exact))
    if within.all():
        return within
    equal = [one == other for one, other in zip(map(_whole, cast.real.ravel()), array.ravel().tolist())]
    return np.array(equal, bool).reshape(array.shape)


def _whole(number: Any) -> int | None:
    return int(number) if np.isfinite(number) else None
