"""Room: which candidates can run beside each other in this machine's memory. Pure.

All candidates of a step run at once and take turns, so their memory adds up. Each is held against the limits that hold
for one pipeline, and the sum of all against those that they share; a tenth is left free.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import StartError
from pipeline.graph.budget import Budget
from pipeline.tuning.candidate import Candidate

__all__ = ["with_room"]

_FREE = 0.9
#: Limits of one process or one segment: those of several pipelines do not add up.
_ALONE = ("file size", "address space", "kernel.shmmax", "open files")


def with_room(
    wanted: Iterable[tuple[Candidate, Budget]], running: Iterable[Budget]
) -> tuple[list[Candidate], dict[Candidate, str]]:
    """The candidates that can start beside those that run, in their order; and why the others cannot.

    Args:
        wanted: the most promising first.
        running: budgets of what runs and goes on.
    """
    taken: dict[str, int] = {}
    for budget in running:
        _take(taken, budget)
    kept: list[Candidate] = []
    left_out: dict[Candidate, str] = {}
    for candidate, budget in wanted:
        try:
            budget.refuse()
        except StartError as error:
            left_out[candidate] = str(error).partition("\n")[0]
            continue
        full = [
            limit
            for limit in budget.limits
            if not limit.name.startswith(_ALONE) and taken.get(limit.name, 0) + limit.needed > _FREE * limit.allowed
        ]
        if full and taken:
            left_out[candidate] = f"no room beside the others: {full[0].name}"
            continue
        _take(taken, budget)
        kept.append(candidate)
    return kept, left_out


def _take(taken: dict[str, int], budget: Budget) -> None:
    for limit in budget.limits:
        taken[limit.name] = taken.get(limit.name, 0) + limit.needed
