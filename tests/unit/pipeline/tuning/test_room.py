"""Which candidates fit beside each other."""

from __future__ import annotations

from pipeline.graph.budget import Budget, BudgetLimit, BudgetLine
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.room import with_room

A, B, C = (Candidate(name) for name in "abc")


def budget(needed: int, allowed: int = 100, name: str = "free in /dev/shm") -> Budget:
    return Budget((BudgetLine("ingress/0", 1, needed, needed),), (BudgetLimit(name, needed, allowed, "make room"),))


def test_what_runs_and_what_starts_add_up_and_a_tenth_stays_free() -> None:
    wanted = [(A, budget(40)), (B, budget(31)), (C, budget(30))]
    kept, left_out = with_room(wanted, [budget(20)])
    assert kept == [A, C]
    assert left_out == {B: "no room beside the others: free in /dev/shm"}


def test_one_that_does_not_fit_alone_says_so_in_one_line() -> None:
    kept, left_out = with_room([(A, budget(101)), (B, budget(50))], [])
    assert kept == [B]
    assert left_out == {A: "the pipeline's shared memory of 101 B does not fit:"}


def test_limits_of_one_process_do_not_add_up() -> None:
    wanted = [(A, budget(60, name="open files (ulimit -n)")), (B, budget(60, name="open files (ulimit -n)"))]
    assert with_room(wanted, [budget(60, name="open files (ulimit -n)")]) == ([A, B], {})
