"""Quantities as people write them: bytes, such as "16MiB", "10MB", "2.4gb", and lengths of time, such as "7d", "12h".

KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB are powers of 1000. The config schema
reads them, and all code that shows sizes to a person writes them.
"""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["format_bytes", "parse_bytes", "parse_seconds"]

_PREFIXES = "kmgt"
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
# More digits are no quantity of anything; Python refuses to write whole numbers of more than 4300.
_LENGTH = re.compile(r"\s*(\d{1,40}(?:\.\d+)?)\s*(s|min|h|d)\s*")
_QUANTITY = re.compile(r"\s*(\d{1,40}(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b)?\s*", re.IGNORECASE)


def parse_bytes(value: object) -> int:
    """The number of bytes of `value`: an int, or text such as "608KiB", "10MB" or "1024".

    A fraction of a byte is dropped: "2.4GiB" is 2576980377.

    Raises:
        ValueError: `value` is neither, or is below 0.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value)):
        number, prefix, binary = match.groups(default="")
        # "10ib" asks for a power of 1024 but has no prefix.
        if not (binary and not prefix):
            power = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
            return int(Decimal(number) * (1024 if binary else 1000) ** power)
    raise ValueError('expected bytes, such as 4096, "608KiB" (powers of 1024) or "10MB" (powers of 1000)')


def parse_seconds(value: object) -> float:
    """The seconds of `value`: a number, or text such as "30s", "10min", "12h" or "7d".

    Raises:
        ValueError: `value` is neither, or is below 0.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (match := _LENGTH.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError('expected seconds, such as 90, or "30s", "10min", "12h", "7d"')


def format_bytes(nbytes: int) -> str:
    """`nbytes` for a person, in powers of 1024: `608.0 KiB`; below 1 KiB exactly: `64 B`."""
    size = float(nbytes)
    if size < 1024:
        return f"{nbytes} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        # In this unit, 1023.96 would be shown as 1024.0.
        if round(size, 1) < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
