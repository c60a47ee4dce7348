"""Catalogue: every metric, and the place of its values in the scheduler's status. Pure.

Counters count from the start of the scheduler, over all workers, the dead ones included; after a scheduler's death
they start again at zero, as `rate()` expects. Counters of a worker start again when its replica is restarted.
Names follow Prometheus' conventions: base units, `_total` for counters
(https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.wire.status import CopyStatus, PipelineStatus, PoolStatus, StageStatus, WorkerStatus

__all__ = ["METRICS", "Metric"]

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, in their order, and the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    """Without the suffix `_total`, which the samples of a counter get."""
    kind: str
    """"counter" or "gauge"."""
    help: str
    labels: tuple[str, ...]
    """Labels beside `pipeline`, which every metric has."""
    samples: Callable[[PipelineStatus], Iterable[Sample]]
    """Takes the samples out of the scheduler's status."""


def _counted(count: float) -> Iterable[Sample]:
    return [((), count)]


def _of_stages(value: Callable[[StageStatus], float]) -> Callable[[PipelineStatus], Iterable[Sample]]:
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


METRICS: tuple[Metric, ...] = (
    Metric("trtlab_ready", "gauge", "Whether the pipeline is ready (1) or not (0).", (), lambda s: _counted(s.ready)),
    Metric("trtlab_requests_inside", "gauge", "Requests without an answer yet.", (), lambda s: _counted(s.inside)),
    Metric("trtlab_clients", "gauge", "Connected clients.", (), lambda s: _counted(len(s.clients))),
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
        "trtlab_requests_waiting", "gauge", "Requests that wait for a stage.", ("stage",),
        _of_stages(lambda s: s.waiting),
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
        "trtlab_copied_bytes", "counter", "Bytes that the runtime copied, by edge and reason.", ("edge", "reason"),
        _of_copies(lambda s: s.bytes),
    ),
    Metric(
        "trtlab_copied_batches", "counter", "Batches in which the runtime copied.", ("edge", "reason"),
        _of_copies(lambda s: s.batches)
    ),
)  # fmt: skip
"""In the order in which they are rendered."""
