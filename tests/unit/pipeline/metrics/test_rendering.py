from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from pipeline.graph.plan import BatchPlan, CameraPlan, Edge, Plan, PoolPlan, StagePlan, WorkerPlan
from pipeline.graph.slots import fields_of
from pipeline.metrics.buckets import SECONDS
from pipeline.metrics.catalogue import GATEWAY_METRICS, HOST_METRICS, METRICS, PROCESS_METRICS, Metric
from pipeline.metrics.host import HostUsage
from pipeline.metrics.processes import ProcessUsage
from pipeline.metrics.rendering import render, render_host, render_processes, render_traffic
from pipeline.metrics.traffic import Traffic
from pipeline.scheduler.scheduler import Scheduler
from pipeline.topology.nvml import GpuUsage
from pipeline.wire.camera import CameraCounts
from pipeline.wire.messages import CameraReport, Copied, Hello, Ready, SupervisorReport, WorkerGone, WorkerReport
from pipeline.wire.records import Spread
from pipeline.wire.status import PipelineStatus, ReloadsStatus, ReloadStatus
from shm.pool import SlotPool
from shm.segment import SegmentSpec
from shm.segments import create
from stages.copies import GATHERED, INPUT
from stages.spec import TensorSpec

X = TensorSpec("x", "uint8", (64,))
HOST = HostUsage(64, 16, (GpuUsage("GPU-1", "NVIDIA L4", 0.25, 1 << 34, 3 << 30, None),))
STAGE = StagePlan(
    name="infer", use="m:C", options={}, inputs=(X,), edges=(Edge("ingress", "x"),), after=(), outputs=(X,),
    fields=fields_of((X,)), batch=BatchPlan(4), credits=8, workers=(WorkerPlan("infer", 0),), host="infer",
)  # fmt: skip
PLAN = Plan(
    "pets", "", "", (X,), (STAGE,), (("y", Edge("infer", "x")),), (PoolPlan("ingress/0", 64, 4), PoolPlan("infer", 64, 6)),
    cameras=(CameraPlan("door", "rtsp://h/"), CameraPlan("yard", "rtsp://h/")),
)  # fmt: skip
COUNTS = CameraCounts("door", "connected", "", 1, 2, 90, 20, 18, 1, {"older": 9}, 3, 500, (Spread((0, 0, 0, 18, *[0] * 13), 9000),))


def status() -> PipelineStatus:
    """Of a scheduler with one worker that has died after two batches, and another one that has done one."""
    made = [create("local", SegmentSpec("run", pool.name.replace("/", ""), 64, pool.slots)) for pool in PLAN.pools]
    scheduler = Scheduler(PLAN, [SlotPool(segment) for segment in made], [segment.number for segment in made], 1)
    scheduler.handle(Ready(1, 0, 0, 100, 1), 5)
    scheduler.handle(WorkerReport(1, 0, 2, 7, (1, 1, 0, 0, 0), 0, (Copied(INPUT, "x", GATHERED, 256, 1),), (0, 0, 1, 1), Spread((0, 7), 1400)), 6)
    scheduler.handle(WorkerGone(1, "killed", (), True, False), 7)
    scheduler.handle(Ready(2, 0, 0, 101, 1), 8)
    scheduler.handle(WorkerReport(2, 0, 1, 4, (1, 0, 0, 0, 0), 3, (Copied(INPUT, "x", GATHERED, 100, 1),)), 9)
    scheduler.handle(Hello(77, "source door"), 9)
    scheduler.handle(CameraReport(77, COUNTS), 9)
    scheduler.handle(CameraReport(77, replace(COUNTS, camera="shed")), 9)
    scheduler.handle(WorkerReport(1, 0, 9, 9, (9, 0, 0, 0, 0), 0, ()), 10)  # of the dead one, too late
    assert scheduler.counts["unexpected_messages"] == 1
    for code, times in (("", 12), ("BadInput", 2)):
        for _ in range(times):
            scheduler.counts.finish(code)
    scheduler.counts.refuse("Overloaded")
    reloads = ReloadsStatus(None, None, {"succeeded": 2, "failed": 1})
    scheduler.handle(SupervisorReport(4, reloads), 11)
    for wrong in (SupervisorReport(-1, reloads), SupervisorReport(4, replace(reloads, counts={"failed": -1}))):
        scheduler.handle(wrong, 11)
    scheduler.counts.update({"refused_loans": 5, "requests": 15, "client_deaths": 6, "refused_frames": 8})
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


def test_what_only_the_supervisor_knows_is_missing_until_it_has_told_so_that_no_counter_rises_after_a_death() -> None:
    untold = replace(status(), counts={}, reloads=None)
    names = {name for name, *_ in samples(render(untold))}
    assert not {"trtlab_log_lost_lines_total", "trtlab_reloads_total", "trtlab_reload_under_way"} & names
    going = ReloadStatus("infer", "/a.yaml", "pets-7", 1.0)
    told = replace(untold, reloads=ReloadsStatus(going, None, {"failed": 0}))
    assert samples(render(told))["trtlab_reload_under_way",] == 1


def test_the_text_is_what_prometheus_parses_and_says_what_happened() -> None:
    found = samples(render(status()))
    expected = {
        ("trtlab_ready",): 1,
        ("trtlab_requests_inside",): 0,
        ("trtlab_answers_total", "OK"): 12,
        ("trtlab_answers_total", "BadInput"): 2,
        ("trtlab_answers_total", "Overloaded"): 1,
        ("trtlab_client_slots", "borrowed"): 0,
        ("trtlab_client_deaths_total",): 6,
        ("trtlab_scheduler_refused_total",): 8,
        ("trtlab_log_lost_lines_total",): 4,
        ("trtlab_reloads_total", "succeeded"): 2,
        ("trtlab_reloads_total", "failed"): 1,
        ("trtlab_reload_under_way",): 0,
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
        ("trtlab_replicas", "infer"): 1,
        ("trtlab_stage_queue_duration_seconds_bucket", "0.0001", "infer"): 0,
        ("trtlab_stage_queue_duration_seconds_bucket", "0.00025", "infer"): 7,
        ("trtlab_stage_queue_duration_seconds_bucket", "+Inf", "infer"): 7,
        ("trtlab_stage_queue_duration_seconds_count", "infer"): 7,
        ("trtlab_stage_queue_duration_seconds_sum", "infer"): 0.0014,
        ("trtlab_stage_compute_duration_seconds_count", "infer"): 0,
        ("trtlab_batch_rows_bucket", "2.0", "infer"): 0,
        ("trtlab_batch_rows_bucket", "4.0", "infer"): 1,
        ("trtlab_batch_rows_bucket", "+Inf", "infer"): 2,
        ("trtlab_batch_rows_sum", "infer"): 11,
        ("trtlab_request_duration_seconds_count",): 0,
        ("trtlab_load_ratio_bucket", "1.25"): 0,
        ("trtlab_slots", "infer"): 6,
        ("trtlab_slots_out", "infer"): 0,
        ("trtlab_slots_free", "infer"): 6,
        ("trtlab_camera_connected", "door"): 1,
        ("trtlab_camera_connected", "yard"): 0,
        ("trtlab_camera_last_frame_seconds", "yard"): None,
        ("trtlab_camera_frames_total", "door"): 90,
        ("trtlab_camera_dropped_total", "door", "older"): 9,
        ("trtlab_camera_dropped_total", "door", "rate"): 0,
        ("trtlab_camera_answers_total", "door"): 18,
        ("trtlab_camera_failures_total", "door"): 1,
        ("trtlab_camera_reconnects_total", "door"): 3,
        ("trtlab_camera_copied_bytes_total", "door"): 500,
        ("trtlab_frame_age_seconds_bucket", "door", "0.001", "infer"): 18,
        ("trtlab_frame_age_seconds_sum", "door", "infer"): 0.009,
        ("trtlab_copied_bytes_total", "ingress.x -> infer.x", "gathered"): 356,
        ("trtlab_copied_batches_total", "ingress.x -> infer.x", "gathered"): 2,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert not any("loans" in key for key in found)


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        (METRICS, render(status())),
        (PROCESS_METRICS, render_processes({"pets": [ProcessUsage("scheduler", 1.5, 9, 2, 3.25)]})),
        (GATEWAY_METRICS, render_traffic(Traffic())),
        (HOST_METRICS, render_host(HOST)),
    ],
    ids=["pipeline", "processes", "gateways", "host"],
)
def test_every_metric_of_the_catalogue_is_rendered_once_with_its_help(metrics: tuple[Metric[Any], ...], text: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert list(families) == [metric.name for metric in metrics]
    for metric in metrics:
        assert families[metric.name].documentation == metric.help
        assert families[metric.name].type == metric.kind


def test_what_a_process_uses_has_its_name() -> None:
    found = samples(render_processes({"pets": [ProcessUsage("a/0", 1.5, 9, 2, 3.25), ProcessUsage("a/1", 0.5, 8, 1, 4)]}))
    assert found["trtlab_process_cpu_seconds_total", "a/0"] == 1.5
    assert found["trtlab_process_resident_memory_bytes", "a/1"] == 8
    assert found["trtlab_process_threads", "a/0"] == 2
    assert found["trtlab_process_start_time_seconds", "a/0"] == 3.25


def test_what_a_gpu_does_not_say_is_no_sample() -> None:
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render_host(HOST))
        for sample in family.samples
    }
    assert found == {
        ("trtlab_shm_bytes",): 64,
        ("trtlab_shm_free_bytes",): 16,
        ("trtlab_gpu_utilization_ratio", "GPU-1", "NVIDIA L4"): 0.25,
        ("trtlab_gpu_memory_bytes", "GPU-1", "NVIDIA L4"): 1 << 34,
        ("trtlab_gpu_memory_used_bytes", "GPU-1", "NVIDIA L4"): 3 << 30,
    }


def test_names_follow_the_rules_of_prometheus() -> None:
    every = [*METRICS, *PROCESS_METRICS, *HOST_METRICS, *GATEWAY_METRICS]
    assert len({metric.name for metric in every}) == len(every)
    for metric in every:
        assert re.fullmatch(r"trtlab(_[a-z]+)+", metric.name), metric.name
        # What Prometheus adds itself, and units that are not its base units.
        assert not re.search(r"_(total|count|sum|bucket|ms|us|milliseconds|microseconds|kilobytes|percent)$", metric.name)
        assert bool(metric.bounds) == (metric.kind == "histogram"), metric.name
        assert metric.help.endswith("."), metric.name
        if metric.bounds == SECONDS:
            assert metric.name.endswith("_seconds")
