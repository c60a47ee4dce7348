"""What two samples of a run make: rates, averages, the order of rows."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.watching.processes import ProcessUse
from pipeline.watching.rates import Frame, Sample, Sort, age_text, frame_of
from pipeline.wire.status import PipelineStatus, PoolStatus, StageStatus, WorkerStatus


def stage(name: str, rows: int = 0, batches: int = 0, **fields: Any) -> StageStatus:
    workers = tuple(WorkerStatus(number, f"{name}/{number}", number, 1, 3, 4, 0, 0) for number in range(2))
    given = {
        "replicas": 2, "waiting": 0, "given_up": None, "deaths": 0, "closed": {}, "refused": 0, "last_ok_s": None,
        "workers": workers, "failures": (), **fields,
    }  # fmt: skip
    return StageStatus(name=name, rows=rows, batches=batches, **given)


def status(*stages: StageStatus, epoch: int = 1, answers: dict[str, int] | None = None, **fields: Any) -> PipelineStatus:
    given = {"ready": True, "reasons": {}, "inside": 0, "pools": (PoolStatus("ingress/0", 27, 20),), **fields}
    return PipelineStatus(
        pipeline="detect", epoch=epoch, counts={}, answers=answers or {}, stages=stages, clients=(), copies=(),
        unfinished=(), drain_s=10.0, **given,
    )  # fmt: skip


def use(pid: int, cpu_s: float, memory: int = 1, started: float = 1.0) -> ProcessUse:
    return ProcessUse(f"p{pid}", pid, started, cpu_s, memory, 1)


def sample(at: float, found: PipelineStatus | None, *processes: ProcessUse, run: str = "detect-7") -> Sample:
    return Sample(at, run, found, "" if found is not None else "the scheduler does not answer", processes, at)


def frame(
    before: PipelineStatus | None, now: PipelineStatus | None, seconds: float = 2.0, sort: Sort = Sort.GRAPH
) -> Frame:
    return frame_of(sample(10.0 + seconds, now), sample(10.0, before), sort)


def test_a_rate_is_what_came_between_two_samples_each_second() -> None:
    found = frame(
        status(stage("a", rows=100, batches=50), answers={"OK": 10, "Overloaded": 1}),
        status(stage("a", rows=500, batches=150), answers={"OK": 30, "Overloaded": 4, "BadInput": 1}),
    )
    assert (found.answered_rate, found.failed_rate, found.seconds) == (10.0, 2.0, 2.0)
    assert (found.stages[0].rate, found.stages[0].batch) == (200.0, 4.0)


def test_the_first_sample_has_no_rates() -> None:
    found = frame_of(sample(10.0, status(stage("a", rows=100, batches=1)), use(1, 5.0)), None)
    assert (found.seconds, found.answered_rate, found.failed_rate) == (0.0, None, None)
    assert (found.stages[0].rate, found.stages[0].batch, found.processes[0].cpu) == (None, None, None)


def test_a_stage_without_a_batch_has_a_rate_and_no_size_of_batches() -> None:
    found = frame(status(stage("a", rows=100, batches=50)), status(stage("a", rows=100, batches=50)))
    assert (found.stages[0].rate, found.stages[0].batch) == (0.0, None)


def test_counts_that_began_anew_give_no_rates() -> None:
    before = status(stage("a", rows=100, batches=50), answers={"OK": 10})
    found = frame(before, status(stage("a", rows=500, batches=150), epoch=2, answers={"OK": 99}))
    assert (found.answered_rate, found.failed_rate, found.stages[0].rate, found.stages[0].batch) == (None,) * 4
    # Of one life of the scheduler, a worker that died has not reported its last rows, perhaps.
    assert frame(before, status(stage("a", rows=50, batches=20))).stages[0].rate is None


def test_another_run_is_not_measured_against_the_one_before_it() -> None:
    before = sample(10.0, status(answers={"OK": 10}), use(1, 5.0))
    found = frame_of(sample(12.0, status(answers={"OK": 30}), use(1, 6.0), run="detect-8"), before)
    assert (found.run, found.pipeline, found.answered_rate, found.processes[0].cpu) == ("detect-8", "detect", None, None)


def test_the_cpu_of_a_process_is_that_of_the_same_process() -> None:
    before = sample(10.0, status(), use(1, 5.0), use(2, 5.0))
    now = sample(12.0, status(), use(1, 6.0), use(2, 9.0, started=11.0), use(3, 1.0))
    assert [row.cpu for row in frame_of(now, before).processes] == [0.5, None, None]


def test_a_scheduler_that_does_not_answer_leaves_the_processes_and_the_reason() -> None:
    found = frame_of(sample(12.0, None, use(1, 6.0, 40)), sample(10.0, status(stage("a")), use(1, 5.0)))
    assert (found.ready, found.reasons) == (False, {"": "the scheduler does not answer"})
    assert (found.stages, found.pools, found.memory, found.processes[0].cpu) == ((), (), 40, 0.5)
    assert found.answered_rate is None


def test_a_stage_says_why_it_is_not_ready() -> None:
    one = stage("a", given_up="died too often")
    found = frame_of(sample(1.0, status(one, stage("b"), stage("c"), ready=False, reasons={"b": "no worker"})), None)
    assert [row.problem for row in found.stages] == ["died too often", "no worker", ""]
    assert (found.stages[0].workers, found.stages[0].replicas, found.stages[0].ordered) == (2, 2, 6)


@pytest.mark.parametrize(
    ("sort", "stages", "processes"),
    [
        (Sort.GRAPH, ["a", "b", "c"], ["p1", "p2", "p3"]),
        (Sort.RATE, ["b", "c", "a"], ["p1", "p2", "p3"]),
        (Sort.WAITING, ["c", "a", "b"], ["p1", "p2", "p3"]),
        (Sort.CPU, ["a", "b", "c"], ["p2", "p1", "p3"]),
        (Sort.MEMORY, ["a", "b", "c"], ["p3", "p1", "p2"]),
    ],
)
def test_rows_are_ordered_by_a_number_the_largest_first(sort: Sort, stages: list[str], processes: list[str]) -> None:
    before = sample(10.0, status(stage("a"), stage("b"), stage("c")), use(1, 0.0), use(2, 0.0))
    now = sample(
        11.0,
        status(stage("a", 1, waiting=5), stage("b", 9, waiting=0), stage("c", 5, waiting=7)),
        use(1, 0.1, 20), use(2, 0.9, 10), use(3, 5.0, 30),
    )  # fmt: skip
    found = frame_of(now, before, sort)
    assert [row.name for row in found.stages] == stages
    assert [row.title for row in found.processes] == processes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-1.0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7620, "2 h 7 min"),
     (86_399, "23 h 59 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_an_age_is_told_in_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text
