"""Instructions: what the scheduler has decided, for its shell to carry out.

Grouped by receiver, so that many orders, answers and grants share one message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.wire.messages import Answer, Answers, Fence, Message, Order, SlotRef

__all__ = ["Instructions", "letters_of"]

#: In one message, for the reason of `MOST_NOTICES`: however much each of them tells, they fit a frame.
_MOST_ANSWERS = 128


@dataclass(slots=True)
class Instructions:
    """Everything to send, by receiver. Orders go before fences: a fence names an order sent earlier."""

    orders: dict[int, list[Order]] = field(default_factory=lambda: defaultdict(list))
    """By worker number."""
    fences: dict[int, list[Fence]] = field(default_factory=lambda: defaultdict(list))
    """By worker number."""
    answers: dict[int, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    """By client."""
    grants: dict[int, list[SlotRef]] = field(default_factory=lambda: defaultdict(list))
    """By client."""
    letters: dict[int, list[Answers]] = field(default_factory=lambda: defaultdict(list))
    """By client: those that it has lost, and its new answers and grants as one message."""
    lost: list[int] = field(default_factory=list)
    """Clients to let go of, which have lost track of what they were sent."""
    gone: list[int] = field(default_factory=list)
    """Workers that died: every other worker hears of it."""
    supervisor: list[Message] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.letters or self.lost or self.fences or self.gone or self.supervisor)


def letters_of(sent: int, answers: Sequence[Answer], grants: Sequence[SlotRef], settled: int) -> list[Answers]:
    """What one client is sent: one message, or several where one might not fit a frame.

    Args:
        sent: the number of the message before.
        settled: see `Answers`.
    """
    starts = range(0, len(answers), _MOST_ANSWERS) or (0,)
    letters = [
        Answers(sent + number, tuple(answers[start : start + _MOST_ANSWERS]), (), settled)
        for number, start in enumerate(starts, 1)
    ]
    letters[-1] = letters[-1]._replace(grants=tuple(grants))
    return letters
