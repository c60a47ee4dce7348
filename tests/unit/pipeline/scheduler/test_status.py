"""The status, and whether the pipeline is ready."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.graph.plan import CanaryPlan
from pipeline.wire.messages import Drain, StageBroken
from pipeline.wire.status import ClientStatus, PoolStatus, WorkerStatus
from tests.unit.pipeline.scheduler.actors import MS
from tests.unit.pipeline.scheduler.example import Example

Make = Callable[..., Example]


def reasons(scheduler: Example) -> dict[str, str]:
    status = scheduler.scheduler.status()
    assert status.ready is (not status.reasons)
    return status.reasons


def test_without_a_canary_a_pipeline_is_ready_when_every_stage_has_a_worker(example: Make) -> None:
    scheduler = example(ready=False)
    scheduler.ready(0, 0)
    scheduler.ready(2, 2)
    assert reasons(scheduler) == {"b": "no worker is ready"}
    scheduler.ready(1, 1)
    assert reasons(scheduler) == {}
    scheduler.handle(StageBroken(1, "it dies at once"))
    assert reasons(scheduler) == {}
    scheduler.dies(1)
    assert reasons(scheduler) == {"b": "broken: it dies at once"}


def test_a_pipeline_that_stops_is_not_ready(example: Make) -> None:
    scheduler = example()
    scheduler.handle(Drain(scheduler.now))
    assert reasons(scheduler) == {"": "stopping"}


def test_with_a_canary_readiness_goes_stale_when_no_request_has_passed_for_three_periods(example: Make) -> None:
    scheduler = example(changed={"canary": CanaryPlan("a.jpg", every_s=2.0)})
    assert reasons(scheduler) == dict.fromkeys("abc", "no request has passed it yet")
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(2, 1)
    scheduler.decide(after_ms=6000)
    assert reasons(scheduler) == {}
    scheduler.decide(after_ms=1)
    assert reasons(scheduler) == dict.fromkeys("abc", "no request has passed it for 6 s")
    scheduler.submit(2)
    scheduler.decide()
    scheduler.finish(0, 2)
    assert set(reasons(scheduler)) == {"b", "c"}


def test_a_stage_that_does_not_reach_what_it_asks_is_not_ready_for_ten_seconds_or_until_a_request_passes(
    example: Make,
) -> None:
    scheduler = example()
    scheduler.submit(1, 2)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.finish(1, 1, "Unavailable")
    scheduler.decide(after_ms=9_999)
    assert reasons(scheduler) == {"b": "why"}
    scheduler.decide(after_ms=1)
    assert reasons(scheduler) == {}
    scheduler.finish(0, 2)
    scheduler.finish(1, 2, "Unavailable")
    scheduler.submit(3)
    scheduler.decide()
    scheduler.finish(0, 3)
    assert reasons(scheduler) == {"b": "why"}
    scheduler.finish(1, 3)
    assert reasons(scheduler) == {}


def test_what_is_inside_is_shown_by_stage_pool_and_client(example: Make) -> None:
    scheduler = example(credits=1)
    scheduler.submit(1, 2)
    scheduler.decide()
    status = scheduler.scheduler.status()
    assert (status.pipeline, status.epoch, status.inside, status.unfinished) == ("demo", 0, 2, ())
    assert status.counts == {"requests": 2}
    a, b, _ = status.stages
    assert (a.waiting, a.replicas, a.last_ok_s) == (1, 1, None)
    assert b.workers == (
        WorkerStatus(worker=1, process="b/0", replica=0, pid=101, ordered=1, credits=0, batches=0, rows=0),
    )
    assert status.pools[:2] == (PoolStatus("ingress/0", slots=3, free=0), PoolStatus("a", slots=2, free=1))
    assert status.clients == (ClientStatus("client 1", id="00001", granted=1, borrowed=0, requests=2),)


def test_when_a_stage_last_finished_a_request_is_shown(example: Make) -> None:
    scheduler = example()
    scheduler.submit(1)
    scheduler.decide()
    scheduler.finish(0, 1)
    scheduler.decide(after_ms=500)
    assert [stage.last_ok_s for stage in scheduler.scheduler.status().stages] == [0.5, None, None]
    assert scheduler.now > 1000 * MS
