from __future__ import annotations

import pytest

from pipeline.worker.recorder import MAX_ROWS, RECORD_BYTES, Recorder


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(2 * RECORD_BYTES))


def test_what_runs_can_be_read_by_another_process(memory: memoryview) -> None:
    worker, supervisor = Recorder(memory), Recorder(memory)
    assert (supervisor.since, supervisor.running) == (0, ())
    worker.begin([7, 2**64 - 1], 12)
    assert (supervisor.since, supervisor.running) == (12, (7, 2**64 - 1))
    worker.end()
    assert (supervisor.since, supervisor.running) == (0, ())


def test_the_last_batch_can_be_read_once_it_is_over_until_the_next_one_begins(memory: memoryview) -> None:
    worker, supervisor = Recorder(memory), Recorder(memory)
    assert (supervisor.last_began, supervisor.last) == (0, ())
    worker.begin([7, 8], 12)
    assert (supervisor.last_began, supervisor.last) == (0, ())
    worker.end()
    assert (supervisor.last_began, supervisor.last) == (12, (7, 8))
    worker.begin([9], 13)
    assert (supervisor.last_began, supervisor.last) == (0, ())
    worker.end()
    worker.clear()
    assert (supervisor.last_began, supervisor.last) == (0, ())


def test_a_shorter_batch_does_not_show_rows_of_the_one_before(memory: memoryview) -> None:
    recorder = Recorder(memory)
    recorder.begin([1, 2, 3], 1)
    recorder.end()
    recorder.begin([4], 2)
    assert recorder.running == (4,)


def test_rows_beyond_the_record_are_left_out_and_the_neighbour_is_not_touched(memory: memoryview) -> None:
    memory[RECORD_BYTES:] = b"\xaa" * RECORD_BYTES
    recorder = Recorder(memory)
    recorder.begin(range(1, MAX_ROWS + 100), 1)
    assert recorder.running == tuple(range(1, MAX_ROWS + 1))
    assert memory[RECORD_BYTES:] == b"\xaa" * RECORD_BYTES


def test_a_damaged_count_reads_no_further_than_the_record(memory: memoryview) -> None:
    recorder = Recorder(memory)
    recorder.begin([1], 1)
    memory.cast("Q")[2] = 2**64 - 1
    assert len(recorder.running) == MAX_ROWS


def test_batches_that_were_finished_are_counted_until_a_new_worker_takes_over(memory: memoryview) -> None:
    recorder = Recorder(memory)
    for _ in range(3):
        recorder.begin([1], 1)
        recorder.end()
    assert recorder.done == 3
    recorder.begin([1], 1)
    recorder.clear()
    assert (recorder.done, recorder.since, recorder.running) == (0, 0, ())


def test_close_lets_go_of_the_memory() -> None:
    memory = bytearray(RECORD_BYTES)
    view = memoryview(memory)
    recorder = Recorder(view)
    recorder.close()
    view.release()
    memory.clear()  # a BufferError while a view of it exists


def test_of_several_batches_in_flight_those_that_still_run_stay_recorded(memory: memoryview) -> None:
    recorder = Recorder(memory)
    recorder.begin([1, 2], 10)
    recorder.begin([1, 2, 3], 10)
    recorder.end([3], 20)
    assert (recorder.since, recorder.running, recorder.done) == (20, (3,), 1)
    recorder.end()
    assert (recorder.since, recorder.running, recorder.done) == (0, (), 2)


def test_which_row_of_its_request_is_computed_alone_is_known_until_the_next_batch(memory: memoryview) -> None:
    worker, supervisor = Recorder(memory), Recorder(memory)
    worker.begin([7], 12)
    assert supervisor.row == -1
    worker.piece(0, 13)
    assert (supervisor.row, supervisor.since, supervisor.running) == (0, 13, (7,))
    worker.piece(5, 14)
    assert (supervisor.row, supervisor.since) == (5, 14)
    worker.end()
    assert supervisor.row == -1
    worker.begin([8], 15)
    assert supervisor.row == -1
