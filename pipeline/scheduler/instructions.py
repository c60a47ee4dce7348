"""Instructions: what has been decided and was not handed out yet.

Grouped by receiver, so that many orders, answers and grants share one message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from pipeline.scheduler.door import SHELL, SUPERVISOR, Decided, Disconnect
from pipeline.wire.address import Address
from pipeline.wire.columns import Columns
from pipeline.wire.messages import Answer, Answers, Fence, Fences, Message, Order, Orders, PeerGone, SlotRef

__all__ = ["Instructions", "letters_of"]

#: In one message. As with `MOST_NOTICES`, so many fit a frame, however long each of them is.
_MOST_ANSWERS = 128


@dataclass(slots=True)
class Instructions:
    """Everything to send, by receiver."""

    first: list[Decided] = field(default_factory=list)
    """Sent before all others, in this order: connections opened and closed, and what is answered at once."""
    orders: dict[int, list[Order]] = field(default_factory=lambda: defaultdict(list))
    """By worker number."""
    columns: dict[int, list[Columns]] = field(default_factory=dict)
    """As `orders`: the common ones."""
    fences: dict[int, list[Fence]] = field(default_factory=lambda: defaultdict(list))
    """By worker number."""
    answers: dict[int, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    """By client."""
    grants: dict[int, list[SlotRef]] = field(default_factory=lambda: defaultdict(list))
    """By client."""
    repeat: dict[int, None] = field(default_factory=dict)
    """Clients that must be sent once more what they have not confirmed."""
    sent_away: dict[int, None] = field(default_factory=dict)
    """Clients that must be told of the successor, whether there is something else to tell or not."""
    lost: list[int] = field(default_factory=list)
    """Clients that have lost what they were sent for good: they must begin anew."""
    gone: list[int] = field(default_factory=list)
    """Workers that died: every other worker is told."""
    supervisor: list[Message] = field(default_factory=list)

    def for_workers(self, epoch: int, living: Iterable[int], settled: int = 0) -> list[Decided]:
        """Orders, then fences, which may name an order of the same decision; then the deaths, to the `living`.

        Args:
            settled: see `Orders`.
        """
        decided: list[Decided] = []
        for number in dict.fromkeys([*self.orders, *self.columns]):
            orders, columns = self.orders.get(number, ()), self.columns.get(number, ())
            decided.append((Address.worker(number), Orders(epoch, tuple(orders), tuple(columns), settled)))
        for number, fences in self.fences.items():
            decided.append((Address.worker(number), Fences(epoch, number, tuple(fences))))
        for number in self.gone:
            decided.append((SHELL, Disconnect(Address.worker(number), 0)))
            decided += [(Address.worker(other), PeerGone(number)) for other in living]
        return decided

    def for_supervisor(self) -> list[Decided]:
        """The messages to the supervisor."""
        return [(SUPERVISOR, message) for message in self.supervisor]


def letters_of(
    sent: int, answers: Sequence[Answer], grants: Sequence[SlotRef], settled: int, successor: str = ""
) -> list[Answers]:
    """What one client is sent: one message, or several if one might not fit a frame.

    Args:
        sent: the number of the message before.
        settled: see `Answers`.
        successor: see `Answers`.
    """
    starts = range(0, len(answers), _MOST_ANSWERS) or (0,)
    letters = [
        Answers(sent + number, tuple(answers[start : start + _MOST_ANSWERS]), (), settled, successor)
        for number, start in enumerate(starts, 1)
    ]
    letters[-1] = replace(letters[-1], grants=tuple(grants))
    return letters
