"""Abandonment: which rows of a batch that answers in parts are not wanted any more. Pure.

A batch in one piece is over soon, so what comes meanwhile waits for its end. One that answers in parts may go on for
minutes, for a caller who has hung up. So its worker looks, between two parts, at what has come: a fence says that an
order is cancelled, and another scheduler wants none of what the last one ordered. The messages stay in their order and
are handled after the batch: until then, nothing that it writes to has another owner.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.errors import Cancelled
from pipeline.wire.messages import Fences, Reset
from pipeline.worker.candidates import Waiting
from stages.errors import AnsweredError

__all__ = ["Abandoned", "all_wanted", "unwanted"]


class Abandoned(AnsweredError):
    """A row is not wanted any more. The scheduler drops the notice that says so: its order is fenced."""

    code = Cancelled.code


def all_wanted(rows: Sequence[Waiting]) -> Sequence[int]:
    """If nothing can come meanwhile."""
    return ()


def unwanted(rows: Sequence[Waiting], came: Collection[object], worker: int, epoch: int) -> list[int]:
    """The places of the rows that are not wanted any more.

    Args:
        came: messages that have come since the batch began.
        worker: the number of the worker that computes the batch.
        epoch: of the scheduler that has ordered it.
    """
    fenced: set[tuple[int, int]] = set()
    for message in came:
        if isinstance(message, Reset):
            return list(range(len(rows)))
        if isinstance(message, Fences) and message.worker == worker and message.epoch == epoch:
            fenced.update([(fence.request, fence.attempt) for fence in message.fences])
    return [place for place, row in enumerate(rows) if (row.order.request, row.order.attempt) in fenced]
