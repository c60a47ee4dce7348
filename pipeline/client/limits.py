"""Limits: how much a manager of this program may ask for, and for how long. Pure."""

from __future__ import annotations

import math

from pipeline.errors import InvalidRequest

__all__ = ["NO_STATUS", "STATUS_S", "check_count", "check_limits", "check_seconds"]

STATUS_S = 30.0
"""How long a program waits by default for a status: on a busy machine the answer takes seconds."""

NO_STATUS = "it hangs, or the machine is too busy: ask with a larger timeout_s, or see `pipeline logs`"
"""What stands behind the error of a program that has waited in vain."""


def check_limits(pending: int, patience_s: float) -> None:
    """
    Raises:
        InvalidRequest: no request could ever be sent, or the time is none.
    """
    check_count("pending", pending)
    check_seconds("patience_s", patience_s)


def check_count(name: str, value: object) -> None:
    """
    Raises:
        InvalidRequest: it is no whole number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"{name}: expected a whole number, 1 or more, found {value!r}")


def check_seconds(name: str, value: object, *, zero: bool = True) -> None:
    """
    Args:
        zero: whether it may be 0.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or value < 0 or (value == 0 and not zero):  # type: ignore[operator]
        raise InvalidRequest(f"{name}: expected seconds, {'0 or more' if zero else 'above 0'}, found {value!r}")
