"""Documents: values as JSON and back, as RFC 8259 has it. Python's own json is more lenient.

NaN, infinities, numbers that are too large for a float, and halves of surrogate pairs pass there, and would be refused
only once a stage gives the value back: the stage would be blamed for what its caller has sent.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["document_bytes", "document_value"]

#: An escape of either half of a pair.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def document_bytes(value: Any) -> bytes:
    """A value as UTF-8.

    Raises:
        TypeError, ValueError, RecursionError: it has no form in JSON.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def document_value(text: bytes, *, words: bool = False) -> Any:
    """The value of one document.

    Args:
        words: NaN, Infinity and -Infinity may be numbers, as Triton writes them.

    Raises:
        ValueError: it is none; a `json.JSONDecodeError` says where, a `UnicodeDecodeError` at which byte.
        RecursionError: it is nested too deeply.
    """
    constant = None if words else _refuse_constant
    value = json.loads(text.decode("utf-8-sig"), parse_constant=constant, parse_float=_finite)
    if _SURROGATE.search(text):
        # Perhaps a whole pair: only of a half no bytes can be made.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)  # infinity, if it is too large
    if math.isinf(value):
        raise ValueError(f"number out of range: {text[:100]}")
    return value
