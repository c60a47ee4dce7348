"""What the records of workers say to their supervisor, while they live and when they are dead."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.supervisor.records import FlightRecords, Last, Overrun
from pipeline.wire.address import Address
from pipeline.worker.recorder import RECORD_BYTES, Recorder

MS = 1_000_000
FIRST, SECOND = Address.worker(0), Address.worker(1)


class Memory:
    """The segment of the records."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(3 * RECORD_BYTES))

    def slot(self, number: int) -> memoryview:
        return self.buffer[number * RECORD_BYTES : (number + 1) * RECORD_BYTES]


def child(address: Address, *posts: tuple[int, int]) -> Any:
    return SimpleNamespace(
        address=address, posts=[SimpleNamespace(stage=stage, record=record) for stage, record in posts]
    )


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def records() -> Iterator[FlightRecords]:
    stages = [SimpleNamespace(timeout_ms=limit) for limit in (100.0, None)]
    made = FlightRecords(SimpleNamespace(stages=stages))  # type: ignore[arg-type]
    yield made
    made.close()


def test_a_dead_process_leaves_what_it_was_computing_and_what_its_stage_has_finished(
    records: FlightRecords, memory: Memory
) -> None:
    records.begin(child(FIRST, (0, 0), (1, 1)), memory)  # type: ignore[arg-type]
    records.begin(child(SECOND, (0, 2)), memory)  # type: ignore[arg-type]
    of_first, of_second = Recorder(memory.slot(0)), Recorder(memory.slot(2))
    for recorder in (of_first, of_first, of_second):
        recorder.begin([1], 1)
        recorder.end()
    of_first.begin([7, 8], 5)
    of_first.piece(1, 6)
    assert records.end(FIRST) == Last({0: (7, 8)}, {0: 3, 1: 0}, {0: 1})
    # Those of the dead still count.
    of_second.begin([9], 7)
    assert records.end(SECOND) == Last({0: (9,)}, {0: 3}, {0: -1})
    assert records.end(SECOND) == Last({}, {}, {})


def test_of_a_process_that_died_between_two_batches_the_last_one_is_told_and_does_not_count_as_finished(
    records: FlightRecords, memory: Memory
) -> None:
    records.begin(child(FIRST, (0, 0), (1, 1)), memory)  # type: ignore[arg-type]
    records.begin(child(SECOND, (0, 2)), memory)  # type: ignore[arg-type]
    for number, slot, request in ((1, 0, 7), (2, 1, 8), (3, 0, 9), (4, 1, 10)):
        recorder = Recorder(memory.slot(slot))
        recorder.begin([request], number)
        recorder.end()
    # Of one stage only: those of the others were over before that one began.
    assert records.end(FIRST) == Last({1: (10,)}, {0: 2, 1: 1}, {1: -1})
    # This one has computed nothing.
    assert records.end(SECOND) == Last({}, {0: 2}, {})


def test_beside_a_batch_that_runs_none_before_it_is_told(records: FlightRecords, memory: Memory) -> None:
    records.begin(child(FIRST, (0, 0), (1, 1)), memory)  # type: ignore[arg-type]
    Recorder(memory.slot(1)).begin([8], 1)
    Recorder(memory.slot(1)).end()
    Recorder(memory.slot(0)).begin([7], 2)
    assert records.end(FIRST) == Last({0: (7,)}, {0: 0, 1: 1}, {0: -1})


def test_a_process_that_takes_over_a_record_begins_with_an_empty_one(records: FlightRecords, memory: Memory) -> None:
    Recorder(memory.slot(0)).begin([7], 5)
    records.begin(child(FIRST, (0, 0)), memory)  # type: ignore[arg-type]
    assert list(records.processes) == [FIRST]
    assert records.end(FIRST) == Last({}, {0: 0}, {})


def test_a_batch_that_takes_longer_than_its_stage_allows_is_named(records: FlightRecords, memory: Memory) -> None:
    records.begin(child(FIRST, (0, 0), (1, 1)), memory)  # type: ignore[arg-type]
    assert not list(records.overruns(10**12))
    Recorder(memory.slot(0)).begin([7], 1000)
    # This stage has no limit.
    Recorder(memory.slot(1)).begin([8], 1000)
    assert not list(records.overruns(1000 + 100 * MS))
    assert list(records.overruns(1000 + 150 * MS)) == [Overrun(FIRST, 0, 150.0)]


def test_a_process_that_could_not_be_born_leaves_no_view_of_the_memory(records: FlightRecords, memory: Memory) -> None:
    records.begin(child(FIRST, (0, 0)), memory)  # type: ignore[arg-type]
    records.forget(FIRST)
    records.forget(FIRST)
    assert not records.processes
