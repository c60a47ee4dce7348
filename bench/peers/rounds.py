"""Rounds: every peer once a round, in rotating order. One that fails is left out from then on, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.floors.slots import TornTensor
from bench.measure import Cell, Subject, SubjectDied, measure
from pipeline.errors import PipelineError

__all__ = ["Measured", "in_rounds"]


class Measured(NamedTuple):
    """What came of all rounds."""

    cells: list[Cell]
    """Of the peers that passed every round, in their order, and by requests in flight."""
    failed: dict[str, str]
    """Why a peer is not among them, by its name."""


def in_rounds(
    subjects: Mapping[str, Callable[[], Subject]],
    nbytes: int,
    windows: Sequence[int],
    rounds: int,
    seconds: float,
    progress: Callable[[str], Any] = lambda _: None,
) -> Measured:
    """Measure every subject once a round, so that a busy minute is spread over all of them.

    Args:
        subjects: what makes each, by name.
        windows: requests in flight.
    """
    cells: dict[tuple[str, int], Cell] = {}
    failed: dict[str, str] = {}
    names = list(subjects)
    for number in range(rounds):
        shift = number % max(1, len(names))
        for name in (*names[shift:], *names[:shift]):
            if name in failed:
                continue
            progress(f"round {number + 1} of {rounds}: {name}")
            try:
                found = measure([subjects[name]], nbytes, windows, 1, seconds)
            except (SubjectDied, TornTensor, PipelineError) as error:
                failed[name] = str(error)
                continue
            for cell in found:
                cells.setdefault((name, cell.window), Cell(name, nbytes, cell.window)).repeats.extend(cell.repeats)
    kept = [cell for cell in cells.values() if cell.subject not in failed]
    return Measured(sorted(kept, key=lambda cell: (names.index(cell.subject), cell.window)), failed)
