"""Rounds: every peer in every round, in rotating order; one that fails does not end the others."""

from __future__ import annotations

import os

from bench.measure import Flow, SubjectDied
from bench.peers.rounds import in_rounds


class Fake:
    """A subject that answers at once, and notes what was asked; in its round `fails`, it dies."""

    def __init__(self, name: str, notes: list[str], fails: int = 0) -> None:
        self.name = name
        self._notes = notes
        self._fails = fails

    def setup(self, nbytes: int, window: int) -> None:
        self._notes.append(f"{self.name} {window}")
        if self._fails and self._notes.count(f"{self.name} {window}") == self._fails:
            raise SubjectDied(f"{self.name} is gone")

    def latency(self, seconds: float) -> list[float]:
        return [100.0]

    def throughput(self, seconds: float, window: int) -> Flow:
        return Flow(10, 0.1)

    def pids(self) -> list[int]:
        return [os.getpid()]

    def close(self) -> None:
        self._notes.append(f"{self.name} closed")


def test_each_round_begins_with_another_peer_and_has_all_of_them() -> None:
    notes: list[str] = []
    subjects = {name: (lambda name=name: Fake(name, notes)) for name in "abc"}
    measured = in_rounds(subjects, 64, (1, 4), 3, 0.0)
    assert [note[0] for note in notes if note.endswith(" 4")] == [*"abc", *"bca", *"cab"]
    assert [(cell.subject, cell.window, len(cell.repeats)) for cell in measured.cells] == [
        (name, window, 3) for name in "abc" for window in (1, 4)
    ]
    assert measured.failed == {}


def test_a_peer_that_dies_is_left_out_with_its_reason_and_is_not_started_again() -> None:
    notes: list[str] = []
    subjects = {"a": lambda: Fake("a", notes), "b": lambda: Fake("b", notes, fails=2)}
    measured = in_rounds(subjects, 64, [1], 3, 0.0)
    assert measured.failed == {"b": "b is gone"}
    assert {cell.subject for cell in measured.cells} == {"a"}
    assert (notes.count("a 1"), notes.count("b 1"), notes.count("b closed")) == (3, 2, 2)
