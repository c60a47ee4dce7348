"""Counts of a model, as statistics have them."""

from __future__ import annotations

from pipeline.kserve.documents import BatchCounts, Total
from pipeline.serving.counts import Tally


def row(batch: int, queue_ms: float = 1.0, compute_ms: float = 4.0) -> dict[str, dict[str, float]]:
    return {
        "first": {"queue_ms": queue_ms, "compute_ms": compute_ms, "batch": batch},
        "second": {"queue_ms": 0.5, "compute_ms": 2.0, "batch": 1},
    }


def test_a_model_that_was_never_asked_has_zeros() -> None:
    document = Tally().document("m", "1")
    assert (document.rows, document.executions, document.success, document.batches) == (0, 0, Total(), ())


def test_an_answer_counts_its_rows_once_and_its_durations_by_part() -> None:
    tally = Tally()
    tally.answered([row(1)], ns=100, input_ns=30, output_ns=20, wall_ms=7)
    document = tally.document("m", "1")
    assert (document.last_inference_ms, document.rows, document.executions) == (7, 1, 1)
    assert document.success == Total(1, 100)
    assert document.queue == Total(1, 1_500_000)
    assert (document.input_ns, document.infer_ns, document.output_ns) == (30, 6_000_000, 20)
    assert document.batches == (BatchCounts(1, 1, infer_ns=6_000_000),)


def test_rows_that_shared_a_batch_are_one_execution() -> None:
    tally = Tally()
    tally.answered([row(4)] * 4, ns=1, input_ns=0, output_ns=0, wall_ms=0)
    document = tally.document("m", "1")
    assert (document.rows, document.executions) == (4, 1)
    assert document.batches == (BatchCounts(4, 1, infer_ns=6_000_000),)


def test_rows_of_one_request_take_as_long_as_the_longest_of_them() -> None:
    tally = Tally()
    tally.answered([row(1, 1.0), row(1, 3.0)], ns=1, input_ns=0, output_ns=0, wall_ms=0)
    assert tally.document("m", "1").queue == Total(1, 3_500_000)


def test_a_failure_is_no_success() -> None:
    tally = Tally()
    tally.failed(5)
    document = tally.document("m", "1")
    assert (document.fail, document.success, document.rows) == (Total(1, 5), Total(), 0)


def test_counts_of_several_gateways_are_their_sum() -> None:
    one, other = Tally(), Tally()
    one.answered([row(2)], ns=100, input_ns=30, output_ns=20, wall_ms=7)
    other.answered([row(2), row(1)], ns=50, input_ns=1, output_ns=2, wall_ms=5)
    other.failed(9)
    both = one.counts.plus(other.counts)
    assert both == other.counts.plus(one.counts)
    document = both.document("m", "1")
    assert (document.last_inference_ms, document.rows) == (7, 3)
    assert (document.success, document.fail) == (Total(2, 150), Total(1, 9))
    assert (document.input_ns, document.infer_ns, document.output_ns) == (31, 12_000_000, 22)
    # Each of them had one half of a batch of two.
    assert document.batches == (BatchCounts(1, 1, infer_ns=6_000_000), BatchCounts(2, 1, infer_ns=6_000_000))
