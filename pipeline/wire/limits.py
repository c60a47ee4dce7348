"""Limits that a client and a scheduler both go by."""

from __future__ import annotations

from typing import Final

__all__ = ["FEW_SLOTS", "LOWEST_PRIORITY"]

FEW_SLOTS: Final = 4
"""Of fewer slots than these, none is granted unasked, and a client keeps none for its next request."""

LOWEST_PRIORITY: Final = 9
"""Priorities are 0 (the highest) to this."""
