from __future__ import annotations

from pipeline.scheduler.tally import StageTally, Tally
from pipeline.wire.messages import Copied, WorkerReport
from pipeline.wire.records import Spread
from stages.copies import GATHERED, INPUT, OUTPUT, RETURNED

IN = (INPUT, "x", GATHERED)
OUT = (OUTPUT, "y", RETURNED)


def report(worker: int, batches: int, *copies: Copied, stage: int = 1) -> WorkerReport:
    return WorkerReport(worker, stage, batches, 3 * batches, (batches, 0, 1, 0, 0), 2, copies, (0, batches), Spread((batches,), 5), Spread((0, batches), 7))


def test_the_last_report_of_each_worker_stands_for_all_of_its_own() -> None:
    tally = Tally(2)
    tally.report(report(5, 1, Copied(*IN, 10, 1)))
    tally.report(report(5, 4, Copied(*IN, 40, 4), Copied(*OUT, 7, 2)))
    tally.report(report(6, 2, Copied(*IN, 1, 1)))
    tally.report(report(7, 9, stage=0))
    total = tally.of(1)
    assert (total.batches, total.rows, total.refused, total.deaths) == (6, 18, 4, 0)
    assert total.closed == {"full": 6, "delay": 0, "drained": 2, "deadline": 0, "slots": 0}
    assert total.copies == {IN: (41, 5), OUT: (7, 2)}
    assert total.sizes == [0, 6, *[0] * 8]
    assert (total.queue, total.queue_us) == ([6, *[0] * 16], 10)
    assert (total.compute, total.compute_us) == ([0, 6, *[0] * 15], 14)
    assert (tally.of(0).batches, tally.of(0).copies) == (9, {})


def test_what_the_dead_have_done_stays_and_their_successors_begin_at_nothing() -> None:
    tally = Tally(2)
    tally.report(report(5, 4, Copied(*IN, 40, 4)))
    tally.retire(5, 1)
    assert tally.of(1).copies == {IN: (40, 4)}
    tally.report(report(8, 1, Copied(*IN, 2, 1)))
    tally.retire(9, 1)  # died before it said anything
    total = tally.of(1)
    assert (total.deaths, total.batches, total.copies) == (2, 5, {IN: (42, 5)})
    tally.retire(8, 1)
    assert tally.of(1).batches == 5


def test_each_living_worker_has_totals_of_its_own() -> None:
    tally = Tally(2)
    tally.report(report(5, 1))
    tally.report(report(5, 4))
    tally.report(report(6, 2))
    assert (tally.of_worker(1, 5), tally.of_worker(1, 6)) == ((4, 12), (2, 6))
    tally.retire(5, 1)
    tally.report(report(8, 1))  # in its place
    assert (tally.of_worker(1, 5), tally.of_worker(1, 8), tally.of_worker(1, 9)) == ((0, 0), (1, 3), (0, 0))
    assert (tally.of(1).batches, tally.of(1).rows) == (7, 21)


def test_a_copy_has_everything_and_shares_nothing_that_changes() -> None:
    sums = StageTally()
    names = [name for name in dir(sums) if not name.startswith("_") and not callable(getattr(sums, name))]
    assert len(names) == 11
    for number, name in enumerate(names, 1):
        value = getattr(sums, name)
        setattr(sums, name, number if isinstance(value, int) else type(value)(value))
    sums.sizes[0], sums.queue[1], sums.compute[2] = 7, 8, 9
    sums.closed["full"], sums.copies["in", "x", "why"] = 10, (11, 12)
    same = sums.copy()
    for name in names:
        value = getattr(sums, name)
        assert getattr(same, name) == value
        assert isinstance(value, int) or getattr(same, name) is not value


def test_asking_changes_nothing() -> None:
    tally = Tally(2)
    tally.report(report(5, 4, Copied(*IN, 40, 4)))
    tally.retire(5, 1)
    tally.report(report(6, 1, Copied(*IN, 1, 1)))
    tally.of(1).copies.clear()
    assert [tally.of(1).copies for _ in range(2)] == [{IN: (41, 5)}] * 2
    assert tally.of(1).closed["full"] == 5


def test_batches_of_a_size_that_no_bucket_is_for_are_not_counted() -> None:
    tally = Tally(2)
    tally.report(WorkerReport(5, 1, 1, 1, (1, 0, 0, 0, 0), 0, (), (1,) * 11))
    assert tally.of(1).sizes == [1] * 10
