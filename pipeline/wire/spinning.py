"""Spinning: whether a receiver looks at its rings for a while before it sleeps. Pure: the time is an argument.

    nothing is here ── begins ─▶ looking ── goes_on ─▶ looking ── found, or SPIN_NS over ─▶ ended
                           └───── it does not pay ───▶ sleeping ── a bell, or the time ───▶ ended

To sleep and to be woken costs about what SPIN_NS of looking cost. So a receiver that looks for so long before it sleeps
spends at most twice what it would have spent had it known what comes (Karlin and others, "Empirical studies of
competitive spinning for a shared-memory multiprocessor", SOSP 1991). Where looking did not pay lately it is left out.
A sleep shows that as well as a look does, by how soon it ended: so nothing is tried in vain to find out that it pays
again, and a receiver to which nothing comes sleeps at once, each time.
"""

from __future__ import annotations

__all__ = ["SPIN_NS", "Spinning"]

SPIN_NS = 50_000
"""How long a receiver looks: what a round trip over rings takes with two wake-ups in it (32 to 54 us in the quicker
turns of bench/NOTES.md)."""

#: A sleep that ended within this would have been a look that paid: waking up took a part of it.
_PAID_NS = 2 * SPIN_NS

#: The last waits that count, and how many of them must have paid.
_WAITS, _LEAST = 8, 4


class Spinning:
    """Of one receiver. `now` is monotonic nanoseconds."""

    def __init__(self) -> None:
        #: A bit for each of the last waits, the latest lowest: whether looking has paid, or would have.
        self._paid = 0
        self._began = 0

    def begins(self, now: int) -> bool:
        """The receiver has found nothing, and is about to wait; whether it should look first."""
        self._began = now
        return self._paid.bit_count() >= _LEAST

    def goes_on(self, now: int) -> bool:
        """Whether to look once more; otherwise the receiver should sleep."""
        return now - self._began < SPIN_NS

    def ended(self, found: bool, now: int) -> None:
        """The wait is over.

        Args:
            found: whether something has come; otherwise its time was over.
        """
        paid = found and now - self._began < _PAID_NS
        self._paid = (self._paid << 1 | paid) & ((1 << _WAITS) - 1)
