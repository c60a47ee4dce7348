"""Counts: what has happened since the scheduler began, by name, and its answers by their code. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["ANSWERED", "Counts", "answered_and_failed"]

ANSWERED = "OK"
"""In place of a code, of a request that was answered without an error."""


class Counts(Counter[str]):
    """Counters by name; one that is not there is 0.

    `answers` has every answer once more, by its code alone: ANSWERED, or that of an error (see `pipeline.errors`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter({ANSWERED: 0})

    def finish(self, code: str) -> None:
        """A request that was let in has its answer.

        Args:
            code: of the error; "" if there was none.
        """
        self[f"failed_{code}" if code else "answered"] += 1
        self.answers[code or ANSWERED] += 1

    def refuse(self, code: str) -> None:
        """A request was not let in."""
        self[f"refused_{code}"] += 1
        self.answers[code] += 1


def answered_and_failed(answers: Mapping[str, int]) -> tuple[int, int]:
    """How many answers had no error, and how many had one.

    Args:
        answers: as of `Counts`.
    """
    answered = answers.get(ANSWERED, 0)
    return answered, sum(answers.values()) - answered
