"""Instructions: what the scheduler has decided, for its shell to carry out.

Grouped by receiver, so that many orders, answers and grants share one message.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from pipeline.wire.messages import Answer, Answers, Fence, Message, Order, SlotRef

__all__ = ["Instructions"]


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
    gone: list[int] = field(default_factory=list)
    """Workers that died: every other worker hears of it."""
    supervisor: list[Message] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.letters or self.fences or self.gone or self.supervisor)
