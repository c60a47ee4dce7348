from __future__ import annotations

import json

from pipeline.scheduler.failures import Failures
from pipeline.wire.status import FailureStatus, plain

SECOND = 10**9


def traceback(line: int, word: str = "bad") -> str:
    return f'Traceback (most recent call last):\n  File "a.py", line {line}, in process\n    fail()\nValueError: {word}'


def test_failures_of_the_same_lines_are_counted_and_the_last_one_is_shown() -> None:
    failures = Failures(2)
    for number in range(3):
        failures.add(1, f"stage b: ValueError: {number} (a.py:7)", traceback(7, str(number)), f"r-{number}", number * SECOND)
    assert failures.of(1, 12 * SECOND) == [
        FailureStatus(
            message="stage b: ValueError: 2 (a.py:7)", traceback=traceback(7, "2"), request="r-2", count=3, last_s=10.0
        )
    ]
    assert failures.of(0, 12 * SECOND) == []


def test_other_lines_or_another_type_are_another_kind_and_the_last_seen_comes_first() -> None:
    failures = Failures(1)
    failures.add(0, "stage a: ValueError: x (a.py:7)", traceback(7), "r-1", 1)
    failures.add(0, "stage a: ValueError: x (a.py:8)", traceback(8), "r-2", 2)
    failures.add(0, "stage a: KeyError: x (a.py:7)", traceback(7), "r-3", 3)
    failures.add(0, "stage a: gave 2 tensors and 0 of many", "", "r-4", 4)
    failures.add(0, "stage a: ValueError: y (a.py:7)", traceback(7), "r-5", 5)
    assert [(kind.request, kind.count) for kind in failures.of(0, 9)] == [
        ("r-5", 2), ("r-4", 1), ("r-3", 1), ("r-2", 1),
    ]  # fmt: skip


def test_however_many_stages_fail_in_however_many_ways_the_status_stays_small() -> None:
    failures = Failures(100)
    text = "\n".join(f'  File "a.py", line {n}, in f' for n in range(150))
    for stage in range(100):
        for line in range(20):
            failures.add(stage, "stage a: E: " + "x" * 3000, f'  File "b.py", line {line}, in f\n{text}', "r", line)
    found = [failures.of(stage, 20) for stage in range(100)]
    assert all(len(kinds) == 5 for kinds in found)
    assert sum(bool(kind.traceback) for kinds in found for kind in kinds) == 32
    # The newest keep their tracebacks.
    assert all(kind.traceback for kind in found[-1])
    assert len(json.dumps(plain(tuple(map(tuple, found))))) < 2_000_000
