from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from pipeline.graph.plan import BatchPlan, Edge, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of
from pipeline.metrics.catalogue import METRICS
from pipeline.metrics.rendering import render
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import Copied, Ready, WorkerGone, WorkerReport
from pipeline.wire.status import PipelineStatus
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from stages.copies import GATHERED, INPUT
from stages.spec import TensorSpec

X = TensorSpec("x", "uint8", (64,))
STAGE = StagePlan(
    name="infer", use="m:C", options={}, inputs=(X,), edges=(Edge("ingress", "x"),), after=(), outputs=(X,),
    fields=fields_of((X,)), batch=BatchPlan(4), credits=8, workers=(WorkerPlan("infer", 0),), host="infer",
)  # fmt: skip
PLAN = Plan(
    "pets", "", "", (X,), (STAGE,), (("y", Edge("infer", "x")),), (PoolPlan("ingress/0", 64, 4), PoolPlan("infer", 64, 6))
)


def status() -> PipelineStatus:
    """Of a scheduler with one worker that has died after two batches, and another one that has done one."""
    made = [create("local", SegmentSpec("run", pool.name.replace("/", ""), 64, pool.slots)) for pool in PLAN.pools]
    scheduler = Scheduler(PLAN, [SlotPool(segment) for segment in made], [segment.number for segment in made], 1)
    scheduler.handle(Ready(1, 0, 0, 100, 1), 5)
    scheduler.handle(WorkerReport(1, 0, 2, 7, (1, 1, 0, 0, 0), 0, (Copied(INPUT, "x", GATHERED, 256, 1),)), 6)
    scheduler.handle(WorkerGone(1, "killed", (), True, False), 7)
    scheduler.handle(Ready(2, 0, 0, 101, 1), 8)
    scheduler.handle(WorkerReport(2, 0, 1, 4, (1, 0, 0, 0, 0), 3, (Copied(INPUT, "x", GATHERED, 100, 1),)), 9)
    scheduler.handle(WorkerReport(1, 0, 9, 9, (9, 0, 0, 0, 0), 0, ()), 10)  # of the dead one, too late
    for code, times in (("", 12), ("BadInput", 2)):
        for _ in range(times):
            scheduler.counts.finish(code)
    scheduler.counts.refuse("Overloaded")
    scheduler.counts.update({"refused_loans": 5, "requests": 15})
    try:
        return scheduler.status()
    finally:
        for segment in made:
            segment.close()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values but the pipeline's) -> value."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("pipeline") == "pets"
            found[(sample.name, *labels.values())] = sample.value
    return found


def test_the_text_is_what_prometheus_parses_and_says_what_happened() -> None:
    found = samples(render(status()))
    expected = {
        ("trtlab_ready",): 1,
        ("trtlab_requests_inside",): 0,
        ("trtlab_answers_total", "OK"): 12,
        ("trtlab_answers_total", "BadInput"): 2,
        ("trtlab_answers_total", "Overloaded"): 1,
        ("trtlab_requests_waiting", "infer"): 0,
        ("trtlab_workers", "infer"): 1,
        ("trtlab_worker_deaths_total", "infer"): 1,
        ("trtlab_batches_total", "full", "infer"): 2,
        ("trtlab_batches_total", "delay", "infer"): 1,
        ("trtlab_batches_total", "slots", "infer"): 0,
        ("trtlab_rows_total", "infer"): 11,
        ("trtlab_worker_batches_total", "0", "infer"): 1,
        ("trtlab_worker_rows_total", "0", "infer"): 4,
        ("trtlab_refused_total", "infer"): 3,
        ("trtlab_slots", "infer"): 6,
        ("trtlab_slots_free", "infer"): 6,
        ("trtlab_copied_bytes_total", "ingress.x -> infer.x", "gathered"): 356,
        ("trtlab_copied_batches_total", "ingress.x -> infer.x", "gathered"): 2,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert not any("loans" in key for key in found)


def test_every_metric_of_the_catalogue_is_rendered_once_with_its_help() -> None:
    text = render(status())
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert list(families) == [metric.name for metric in METRICS]
    for metric in METRICS:
        assert families[metric.name].documentation == metric.help
        assert families[metric.name].type == metric.kind
