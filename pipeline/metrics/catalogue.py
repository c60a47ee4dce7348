"""Catalogue: every metric, and the place of its values in what is told elsewhere. Pure.

    METRICS            of a pipeline          out of its scheduler's status
    PROCESS_METRICS    of a run's processes   out of what the kernel says of them when it is asked
    HOST_METRICS       of the machine         out of what the kernel and NVML say
    GATEWAY_METRICS    of all gateways        out of their traffic

Counters and histograms count from the start of the scheduler, over all workers, the dead ones included; after a
scheduler's death they start again at zero, as `rate()` expects. What the supervisor counts, lost lines and reloads,
goes on as it was. Counters of a worker start again when its replica is restarted. Names follow Prometheus' conventions:
base units, `_total` for counters (https://prometheus.io/docs/practices/naming/). docs/metrics.md is made from this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.metrics.buckets import LOAD_RATIO, ROWS, SECONDS
from pipeline.metrics.host import HostUsage
from pipeline.metrics.processes import ProcessUsage
from pipeline.metrics.traffic import Traffic
from pipeline.topology.nvml import GpuUsage
from pipeline.wire.camera import DROPS, State
from pipeline.wire.status import (
    CameraStatus,
    CopyStatus,
    HistogramStatus,
    PipelineStatus,
    PoolStatus,
    StageStatus,
    WorkerStatus,
)

__all__ = ["DETECTOR_METRICS", "GATEWAY_METRICS", "HOST_METRICS", "METRICS", "PROCESS_METRICS", "Metric"]

Sample = tuple[tuple[str, ...], "float | HistogramStatus"]
"""Values of the labels, in their order, and the value; a histogram's is its buckets."""

_S = TypeVar("_S")


@dataclass(frozen=True)
class Metric(Generic[_S]):
    """One metric."""

    name: str
    """Without the suffix `_total`, which the samples of a counter get."""
    kind: str
    """"counter", "gauge" or "histogram"."""
    help: str
    labels: tuple[str, ...]
    """Labels beside `pipeline`, which every metric has but those of the gateway."""
    samples: Callable[[_S], Iterable[Sample]]
    """Takes the samples out of what the metric is of."""
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""


def _counted(count: float | HistogramStatus) -> Iterable[Sample]:
    return [((), count)]


def _of_stages(value: Callable[[StageStatus], float | HistogramStatus]) -> Callable[[PipelineStatus], Iterable[Sample]]:
    return lambda status: (((stage.name,), value(stage)) for stage in status.stages)


def _closed(status: PipelineStatus) -> Iterable[Sample]:
    for stage in status.stages:
        for reason, count in stage.closed.items():
            yield (stage.name, reason), count


def _of_workers(value: Callable[[WorkerStatus], float]) -> Callable[[PipelineStatus], Iterable[Sample]]:
    return lambda status: (
        ((stage.name, str(worker.replica)), value(worker)) for stage in status.stages for worker in stage.workers
    )


def _of_pools(value: Callable[[PoolStatus], float]) -> Callable[[PipelineStatus], Iterable[Sample]]:
    return lambda status: (((pool.name,), value(pool)) for pool in status.pools)


def _of_copies(value: Callable[[CopyStatus], float]) -> Callable[[PipelineStatus], Iterable[Sample]]:
    return lambda status: (((copy.edge, copy.reason), value(copy)) for copy in status.copies)


def _of_cameras(value: Callable[[CameraStatus], float | None]) -> Callable[[PipelineStatus], Iterable[Sample]]:
    return lambda status: (
        ((camera.name,), found) for camera in status.cameras if (found := value(camera)) is not None
    )


def _held(status: PipelineStatus) -> Iterable[Sample]:
    yield ("granted",), sum(client.granted for client in status.clients)
    yield ("borrowed",), sum(client.borrowed for client in status.clients)


def _dropped(status: PipelineStatus) -> Iterable[Sample]:
    for camera in status.cameras:
        # All of them, so that a rate is known from the first one on.
        for reason in DROPS:
            yield (camera.name, reason), camera.dropped.get(reason, 0)


def _spans(status: PipelineStatus) -> Iterable[Sample]:
    for name, count in status.counts.items():
        if name.startswith("spans_"):
            yield (name.removeprefix("spans_"),), count


def _ages(status: PipelineStatus) -> Iterable[Sample]:
    for camera in status.cameras:
        for age in camera.ages:
            yield (camera.name, age.stage), age.seconds


def _known(value: float | None) -> Iterable[Sample]:
    return [] if value is None else [((), value)]


def _reloads(status: PipelineStatus) -> Iterable[Sample]:
    # All of them, once they are told: after a scheduler's death the counter goes on as it was, and has not risen.
    if status.reloads is not None:
        for outcome, count in status.reloads.counts.items():
            yield (outcome,), count


METRICS: tuple[Metric[PipelineStatus], ...] = (
    Metric("trtlab_ready", "gauge", "Whether the pipeline is ready (1) or not (0).", (), lambda s: _counted(s.ready)),
    Metric("trtlab_requests_inside", "gauge", "Requests without an answer yet.", (), lambda s: _counted(s.inside)),
    Metric(
        "trtlab_request_duration_seconds", "histogram",
        "From a request's submission to its answer, of those that were answered without an error.", (),
        lambda s: _counted(s.request_s), SECONDS,
    ),
    Metric(
        "trtlab_load_ratio", "histogram",
        "How many times as long as its computation a request took; 1: it never waited.", (),
        lambda s: _counted(s.load_ratio), LOAD_RATIO,
    ),
    Metric("trtlab_clients", "gauge", "Connected clients.", (), lambda s: _counted(len(s.clients))),
    Metric(
        "trtlab_client_slots", "gauge",
        "Slots that clients hold: to fill them (granted), or while they read answers (borrowed).", ("held",), _held,
    ),
    Metric(
        "trtlab_client_deaths", "counter", "Clients that ended without a goodbye, as one that is killed does.", (),
        lambda s: _counted(s.counts.get("client_deaths", 0)),
    ),
    Metric(
        "trtlab_scheduler_refused", "counter", "Frames that the scheduler refused, since they were no messages.", (),
        lambda s: _counted(s.counts.get("refused_frames", 0)),
    ),
    Metric(
        "trtlab_log_lost_lines", "counter",
        "Lines of the log that could not be written, as on a full disk, since the supervisor began.", (),
        lambda s: _known(s.counts.get("lost_log_lines")),
    ),
    Metric(
        "trtlab_reloads", "counter",
        "Reloads of the whole pipeline or of a stage that have ended, by outcome: succeeded; failed, so that nothing "
        "has changed; rolled_back: the workers that were replaced are of the old version again; mixed: they could not "
        "be, and a stage has workers of both versions.", ("outcome",), _reloads,
    ),
    Metric(
        "trtlab_reload_under_way", "gauge", "Whether a reload is under way (1) or not (0).", (),
        lambda s: _known(None if s.reloads is None else s.reloads.under_way is not None),
    ),
    Metric(
        "trtlab_answers", "counter", "Answers by code: OK, or the name of an error.", ("code",),
        lambda s: (((code,), count) for code, count in s.answers.items()),
    ),
    Metric(
        "trtlab_retries", "counter", "Requests that were ordered again after a worker's death.", (),
        lambda s: _counted(s.counts.get("retries", 0)),
    ),
    Metric(
        "trtlab_resized", "counter", "Requests that a stage ran again for, with a larger slot.", (),
        lambda s: _counted(s.counts.get("resized", 0)),
    ),
    Metric(
        "trtlab_spans", "counter",
        "Spans of traces, if the config has `tracing`, by outcome: exported; dropped, as the queue was full; failed, "
        "since the collector refused them or was away for too long; missed: requests of which no span was made.",
        ("outcome",), _spans,
    ),
    Metric(
        "trtlab_requests_waiting", "gauge", "Requests that wait for a stage.", ("stage",),
        _of_stages(lambda s: s.waiting),
    ),
    Metric(
        "trtlab_stage_queue_duration_seconds", "histogram",
        "From the arrival of a request, or child, in a worker to the start of its batch.", ("stage",),
        _of_stages(lambda s: s.queue_s), SECONDS,
    ),
    Metric(
        "trtlab_stage_compute_duration_seconds", "histogram",
        "What the batch of a request, or child, took in a stage, once for each of them.", ("stage",),
        _of_stages(lambda s: s.compute_s), SECONDS,
    ),
    Metric(
        "trtlab_replicas", "gauge", "Workers that a stage must have.", ("stage",),
        _of_stages(lambda s: s.replicas),
    ),
    Metric(
        "trtlab_workers", "gauge", "Workers of a stage that are alive.", ("stage",),
        _of_stages(lambda s: len(s.workers)),
    ),
    Metric(
        "trtlab_worker_deaths", "counter", "Workers of a stage that have died.", ("stage",),
        _of_stages(lambda s: s.deaths),
    ),
    Metric("trtlab_batches", "counter", "Batches by the reason for which they closed.", ("stage", "closed"), _closed),
    Metric("trtlab_batch_rows", "histogram", "Rows of a batch.", ("stage",), _of_stages(lambda s: s.sizes), ROWS),
    Metric(
        "trtlab_rows", "counter", "Requests or children that were computed.", ("stage",),
        _of_stages(lambda s: s.rows),
    ),
    Metric(
        "trtlab_worker_batches", "counter", "Batches of a worker since it started.", ("stage", "replica"),
        _of_workers(lambda s: s.batches),
    ),
    Metric(
        "trtlab_worker_rows", "counter", "Requests or children that a worker computed.", ("stage", "replica"),
        _of_workers(lambda s: s.rows),
    ),
    Metric(
        "trtlab_refused", "counter", "Messages and handles that were refused.", ("stage",),
        _of_stages(lambda s: s.refused),
    ),
    Metric("trtlab_slots", "gauge", "Slots of a pool.", ("pool",), _of_pools(lambda s: s.slots)),
    Metric("trtlab_slots_free", "gauge", "Slots of a pool that are free.", ("pool",), _of_pools(lambda s: s.free)),
    Metric(
        "trtlab_slots_out", "gauge", "Slots of a pool that hold a tensor, or may be filled.", ("pool",),
        _of_pools(lambda s: s.slots - s.free),
    ),
    Metric(
        "trtlab_copied_bytes", "counter", "Bytes that the runtime copied, by edge and reason.", ("edge", "reason"),
        _of_copies(lambda s: s.bytes),
    ),
    Metric(
        "trtlab_copied_batches", "counter", "Batches in which the runtime copied.", ("edge", "reason"),
        _of_copies(lambda s: s.batches)
    ),
    Metric(
        "trtlab_camera_connected", "gauge", "Whether a camera is connected (1) or not (0).", ("camera",),
        _of_cameras(lambda c: c.state == State.CONNECTED),
    ),
    Metric(
        "trtlab_camera_paused", "gauge", "Whether a camera is paused (1) or not (0).", ("camera",),
        _of_cameras(lambda c: c.state == State.PAUSED),
    ),
    Metric(
        "trtlab_camera_last_frame_seconds", "gauge",
        "Seconds since the last frame of a camera came; missing until one has.", ("camera",),
        _of_cameras(lambda c: c.last_frame_s),
    ),
    Metric(
        "trtlab_camera_frames", "counter", "Frames of a camera that have come, whole or damaged.", ("camera",),
        _of_cameras(lambda c: c.frames),
    ),
    Metric(
        "trtlab_camera_dropped", "counter", "Frames of a camera that were dropped, by reason.", ("camera", "reason"),
        _dropped,
    ),
    Metric(
        "trtlab_camera_answers", "counter", "Frames of a camera that were answered without an error.", ("camera",),
        _of_cameras(lambda c: c.answered),
    ),
    Metric(
        "trtlab_camera_failures", "counter", "Frames of a camera whose request failed.", ("camera",),
        _of_cameras(lambda c: c.failed),
    ),
    Metric(
        "trtlab_camera_reconnects", "counter", "How often a camera was connected again.", ("camera",),
        _of_cameras(lambda c: c.reconnects),
    ),
    Metric(
        "trtlab_camera_copied_bytes", "counter", "Bytes of a camera's frames that were copied on their way into slots.",
        ("camera",), _of_cameras(lambda c: c.copied),
    ),
    Metric(
        "trtlab_camera_clips", "counter", "Clips of a camera that were recorded.", ("camera",),
        _of_cameras(lambda c: c.clips),
    ),
    Metric(
        "trtlab_camera_unwritten", "counter",
        "Clips and snapshots of a camera that could not be written, or not to their end.", ("camera",),
        _of_cameras(lambda c: c.unwritten),
    ),
    Metric(
        "trtlab_frame_age_seconds", "histogram",
        "How old a camera's frames were when a stage was done with them, from their arrival at the source on.",
        ("camera", "stage"), _ages, SECONDS,
    ),
)  # fmt: skip
"""In the order in which they are rendered."""


def _of_processes(value: Callable[[ProcessUsage], float]) -> Callable[[Sequence[ProcessUsage]], Iterable[Sample]]:
    return lambda found: (((usage.title,), value(usage)) for usage in found)


PROCESS_METRICS: tuple[Metric[Sequence[ProcessUsage]], ...] = (
    Metric(
        "trtlab_process_cpu_seconds", "counter", "CPU time of a process of the run, of its own code and the kernel's.",
        ("process",), _of_processes(lambda p: p.cpu_s),
    ),
    Metric(
        "trtlab_process_resident_memory_bytes", "gauge",
        "Resident memory of a process, with the pages of the segments that it has touched.", ("process",),
        _of_processes(lambda p: p.resident_bytes),
    ),
    Metric(
        "trtlab_process_threads", "gauge", "Threads of a process.", ("process",), _of_processes(lambda p: p.threads),
    ),
    Metric(
        "trtlab_process_start_time_seconds", "gauge", "When a process was started, since the epoch.", ("process",),
        _of_processes(lambda p: p.started_s),
    ),
)  # fmt: skip
"""In the order in which they are rendered."""


def _of_gpus(value: Callable[[GpuUsage], float | None]) -> Callable[[HostUsage], Iterable[Sample]]:
    return lambda host: (((gpu.uuid, gpu.name), found) for gpu in host.gpus if (found := value(gpu)) is not None)


HOST_METRICS: tuple[Metric[HostUsage], ...] = (
    Metric("trtlab_shm_bytes", "gauge", "Size of /dev/shm, where segments are.", (), lambda h: _known(h.shm_bytes)),
    Metric(
        "trtlab_shm_free_bytes", "gauge", "Bytes of /dev/shm that are free.", (), lambda h: _known(h.shm_free_bytes),
    ),
    Metric(
        "trtlab_gpu_utilization_ratio", "gauge",
        "The share of the last moments in which something ran on a GPU, of whatever process.", ("gpu", "model"),
        _of_gpus(lambda g: g.busy),
    ),
    Metric(
        "trtlab_gpu_memory_bytes", "gauge", "Memory of a GPU.", ("gpu", "model"), _of_gpus(lambda g: g.memory_bytes),
    ),
    Metric(
        "trtlab_gpu_memory_used_bytes", "gauge",
        "Memory of a GPU that is in use, by whatever process, or reserved by its driver.",
        ("gpu", "model"), _of_gpus(lambda g: g.memory_used_bytes),
    ),
    Metric(
        "trtlab_gpu_power_watts", "gauge", "Power that a GPU draws.", ("gpu", "model"), _of_gpus(lambda g: g.power_w),
    ),
)  # fmt: skip
"""In the order in which they are rendered. They have no label `pipeline`: several may use the same."""


def _outcomes(traffic: Traffic) -> Iterable[Sample]:
    for front, outcomes in traffic.requests.items():
        for outcome, count in outcomes.items():
            yield (front, outcome), count


GATEWAY_METRICS: tuple[Metric[Traffic], ...] = (
    Metric(
        "trtlab_gateway_requests", "counter",
        "Requests of the gateway, and messages of streams, by outcome: OK, the code of an error, or CANCELLED.",
        ("front", "outcome"), _outcomes,
    ),
    Metric(
        "trtlab_gateway_inference_seconds", "histogram",
        "How long inference took in the gateway, from the end of the headers (HTTP) or of the message (gRPC) until the "
        "answer was made.", ("front",),
        lambda t: (((front,), HistogramStatus(tuple(took.buckets), took.sum_s)) for front, took in t.latencies.items()),
        SECONDS,
    ),
    Metric(
        "trtlab_gateway_copied_bytes", "counter", "Bytes that the gateway copied, beside those into slots, by reason.",
        ("reason",), lambda t: (((reason,), nbytes) for reason, nbytes in t.copied.items()),
    ),
    Metric("trtlab_gateway_deaths", "counter", "Gateways that died.", (), lambda t: [((), t.deaths)]),
)  # fmt: skip
"""Sums over all gateways, in the order in which they are rendered."""

DETECTOR_METRICS: tuple[Metric[Mapping[str, int]], ...] = (
    Metric(
        "trtlab_detector_frames", "counter",
        "Frames that Frigate has sent to `pipeline detector`, by outcome: OK; Late, not answered in time; Gone, "
        "answered in time, but the connection was gone; or the code of an error.",
        ("outcome",), lambda outcomes: (((outcome,), count) for outcome, count in outcomes.items()),
    ),
)  # fmt: skip
"""Of one `pipeline detector`, in the order in which they are rendered."""
