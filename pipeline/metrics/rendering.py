"""Rendering: the catalogue over one status document, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.metrics.catalogue import METRICS
from pipeline.wire.status import PipelineStatus

__all__ = ["render"]

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class _StatusCollector(Collector):
    """Gives the values of a status document; the scheduler keeps the counters, this class does not."""

    def __init__(self, status: PipelineStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        pipeline = self._status.pipeline
        for metric in METRICS:
            family = _FAMILIES[metric.kind](metric.name, metric.help, labels=("pipeline", *metric.labels))
            for labels, value in metric.samples(self._status):
                family.add_metric((pipeline, *labels), value)
            yield family


def render(status: PipelineStatus) -> str:
    """All metrics of a pipeline.

    Args:
        status: the scheduler's.

    Returns:
        Text of version 0.0.4 of Prometheus' exposition format.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry).decode()
