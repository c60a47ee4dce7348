"""Values: the outputs of an answer as JSON, in full and in short. Pure.

    a number, bool              itself; a float32 with no more digits than it has
    an array                    nested lists
    complex numbers             [real, imaginary]: one axis more
    longdouble (float128)       a number with all of its digits
    NaN and the infinities      null, for JSON has no number for them; they are counted
    elements of bytes           texts; null if they are no UTF-8, which is counted too
    an output of dtype "json"   its value
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.feeding.digits import fewest_digits
from shm.handle import BFLOAT16

__all__ = ["brief_text", "headline_of", "json_text", "json_value"]

_SHORT = 80
_NO_TEXT = "not UTF-8"
_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def json_text(value: Any, lost: Counter[str]) -> bytes:
    """The JSON of one output.

    Args:
        lost: counts what became null, by name: NaN, Infinity, -Infinity, and "not UTF-8".
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return _array_text(np.asarray(value), lost)
    return json_value(value, lost)


def json_value(value: Any, lost: Counter[str]) -> bytes:
    """The JSON of a value of plain types. Half of a surrogate pair becomes an escape: UTF-8 has no form for it."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value, lost), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any, lost: Counter[str]) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item, lost) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, lost) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        lost[_NAMES[str(value)]] += 1
        return None
    return value


def _array_text(array: NDArray[Any], lost: Counter[str]) -> bytes:
    if array.dtype.hasobject:
        return json_value(_texts_of(array.tolist(), lost), lost)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    digits = array if array.dtype.name in ("float16", BFLOAT16, "float32") else None
    if array.dtype.name == BFLOAT16:
        with np.errstate(invalid="ignore"):  # told of some of the bits that are no number
            array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        lost["NaN"] += int(np.isnan(array).sum())
        lost["Infinity"] += int(np.isposinf(array).sum())
        lost["-Infinity"] += int(np.isneginf(array).sum())
    if array.dtype.itemsize > 8:
        return _long_text(array)
    if digits is not None:
        array = fewest_digits(digits)
    # Numbers that are not finite are null here.
    return msgspec.json.encode(array.tolist())


def _texts_of(value: Any, lost: Counter[str]) -> Any:
    """Nested lists of elements as nested lists of texts."""
    if isinstance(value, list):
        return [_texts_of(item, lost) for item in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        lost[_NO_TEXT] += 1
        return None


def _long_text(array: NDArray[Any]) -> bytes:
    """The JSON of longdoubles, whose digits only numpy knows."""
    if array.ndim:
        return b"[" + b",".join([_long_text(np.asarray(item)) for item in array]) + b"]"
    return str(array[()]).encode() if np.isfinite(array) else b"null"


# -- in short ---------------------------------------------------------------------------------------


def headline_of(outputs: Any) -> tuple[str, str]:
    """(top label, its score) if the outputs are labels and scores; otherwise (the outputs in short, "").

    Reads the first elements only, however large the arrays are.
    """
    labels, scores = outputs.get("labels"), outputs.get("scores")
    if _is_row(labels) and _is_row(scores):
        label, score = labels[0], scores[0]
        number = isinstance(score, (int, float, np.integer, np.floating)) or _is_bfloat16(score)
        if number and not isinstance(label, (list, dict)):
            return _shown(label) if isinstance(label, bytes) else str(label), f"{float(score):.4f}"
    return brief_text(outputs), ""


def _is_row(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and len(value) > 0
    return isinstance(value, list) and len(value) > 0


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, np.generic) and value.dtype.name == BFLOAT16


def _shown(element: bytes) -> str:
    """An element of bytes for people."""
    return element.decode("utf-8", "backslashreplace")


def brief_text(value: Any) -> str:
    """JSON, cut to the characters that fit in a line beside a name."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > _SHORT:
            return text[: _SHORT - 3] + "..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """JSON piece by piece, made only as far as the caller reads."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, (list, np.ndarray)):
        yield "["
        for index, item in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(item)
        yield "]"
    elif hasattr(value, "items"):
        yield "{"
        for index, (name, item) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(name, ensure_ascii=False)}: "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, np.complexfloating):
        yield from _pieces([value.real, value.imag])
    elif isinstance(value, np.floating) or _is_bfloat16(value):
        yield _NAMES.get(str(value), str(value))
    elif isinstance(value, np.generic):
        yield json.dumps(value.item())
    elif isinstance(value, bytes):
        yield from _pieces(_shown(value[: _SHORT + 1]))
    elif isinstance(value, str):
        yield json.dumps(value[: _SHORT + 1], ensure_ascii=False)
    else:
        yield json.dumps(value)
