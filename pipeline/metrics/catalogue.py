"""Catalogue: every metric, and the place of its values in the scheduler's status. Pure.

Counters count from the start of the scheduler, over all workers, the dead ones included; after a scheduler's death
they start again at zero, as `rate()` expects. Counters of a worker start again when its replica is restarted.
Names follow Prometheus' conventions: base units, `_total` for counters
(https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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
    samples: Callable[[Mapping[str, Any]], Iterable[Sample]]
    """Takes the samples out of the scheduler's status (see `pipeline.scheduler.status`)."""


def _count(name: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda status: [((), status["counts"].get(name, 0))]


def _answers(status: Mapping[str, Any]) -> Iterable[Sample]:
    return (((code,), count) for code, count in status["answers"].items())


def _of_stages(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda status: (((stage["name"],), stage[key]) for stage in status["stages"])


def _closed(status: Mapping[str, Any]) -> Iterable[Sample]:
    for stage in status["stages"]:
        for reason, count in stage["closed"].items():
            yield (stage["name"], reason), count


def _of_workers(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda status: (
        ((stage["name"], str(worker["replica"])), worker[key])
        for stage in status["stages"]
        for worker in stage["workers"]
    )


def _of_pools(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda status: (((pool["name"],), pool[key]) for pool in status["pools"])


def _of_copies(key: str) -> Callable[[Mapping[str, Any]], Iterable[Sample]]:
    return lambda status: (((copy["edge"], copy["reason"]), copy[key]) for copy in status["copies"])


METRICS: tuple[Metric, ...] = (
    Metric("trtlab_ready", "gauge", "Whether the pipeline is ready (1) or not (0).", (), lambda s: [((), s["ready"])]),
    Metric("trtlab_requests_inside", "gauge", "Requests without an answer yet.", (), lambda s: [((), s["inside"])]),
    Metric("trtlab_clients", "gauge", "Connected clients.", (), lambda s: [((), len(s["clients"]))]),
    Metric("trtlab_answers", "counter", "Answers by code: OK, or the name of an error.", ("code",), _answers),
    Metric(
        "trtlab_retries", "counter", "Requests that were ordered again after a worker's death.", (),
        _count("retries"),
    ),
    Metric(
        "trtlab_resized", "counter", "Requests that a stage ran again for, with a larger slot.", (),
        _count("resized"),
    ),
    Metric("trtlab_requests_waiting", "gauge", "Requests that wait for a stage.", ("stage",), _of_stages("waiting")),
    Metric(
        "trtlab_workers", "gauge", "Workers of a stage that are alive.", ("stage",),
        lambda s: (((stage["name"],), len(stage["workers"])) for stage in s["stages"]),
    ),
    Metric("trtlab_worker_deaths", "counter", "Workers of a stage that have died.", ("stage",), _of_stages("deaths")),
    Metric("trtlab_batches", "counter", "Batches by the reason for which they closed.", ("stage", "closed"), _closed),
    Metric("trtlab_rows", "counter", "Requests or children that were computed.", ("stage",), _of_stages("rows")),
    Metric(
        "trtlab_worker_batches", "counter", "Batches of a worker since it started.", ("stage", "replica"),
        _of_workers("batches"),
    ),
    Metric(
        "trtlab_worker_rows", "counter", "Requests or children that a worker computed.", ("stage", "replica"),
        _of_workers("rows"),
    ),
    Metric("trtlab_refused", "counter", "Messages and handles that were refused.", ("stage",), _of_stages("refused")),
    Metric("trtlab_slots", "gauge", "Slots of a pool.", ("pool",), _of_pools("slots")),
    Metric("trtlab_slots_free", "gauge", "Slots of a pool that are free.", ("pool",), _of_pools("free")),
    Metric(
        "trtlab_copied_bytes", "counter", "Bytes that the runtime copied, by edge and reason.", ("edge", "reason"),
        _of_copies("bytes"),
    ),
    Metric(
        "trtlab_copied_batches", "counter", "Batches in which the runtime copied.", ("edge", "reason"),
        _of_copies("batches")
    ),
)  # fmt: skip
"""In the order in which they are rendered."""
