"""Limits that a client and a scheduler both go by."""

from __future__ import annotations

from typing import Final

__all__ = ["ASK_AGAIN_NS", "FEW_SLOTS", "LOWEST_PRIORITY", "REPEAT_NS"]

FEW_SLOTS: Final = 4
"""Of fewer slots than these, none is granted unasked, and a client keeps none for its next request."""

LOWEST_PRIORITY: Final = 9
"""Priorities are 0 (the highest) to this."""

ASK_AGAIN_NS: Final = 500_000_000
"""A hello to a scheduler that was about to die is lost. After this time it is said again; after this time without a
message, a client asks the scheduler whether it still knows it."""

REPEAT_NS: Final = 50_000_000
"""How often at most a client asks the scheduler for what was lost on the way."""
