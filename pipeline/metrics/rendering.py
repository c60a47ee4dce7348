"""Rendering: the catalogue over what is told elsewhere, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from pipeline.metrics.buckets import labelled
from pipeline.metrics.catalogue import (
    DETECTOR_METRICS,
    GATEWAY_METRICS,
    HOST_METRICS,
    METRICS,
    PROCESS_METRICS,
    Metric,
)
from pipeline.metrics.host import HostUsage
from pipeline.metrics.processes import ProcessUsage
from pipeline.metrics.traffic import Traffic
from pipeline.wire.status import HistogramStatus, PipelineStatus

__all__ = ["CONTENT_TYPE", "render", "render_frames", "render_host", "render_processes", "render_traffic"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what is rendered."""

_S = TypeVar("_S")

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class _Collected(Collector):
    """Gives values that others keep; it keeps none."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def render(*statuses: PipelineStatus) -> str:
    """All metrics of some pipelines.

    Args:
        statuses: of each its scheduler's.

    Returns:
        Text of version 0.0.4 of Prometheus' exposition format.
    """
    return _text(METRICS, "pipeline", [((status.pipeline,), status) for status in statuses])


def render_processes(found: Mapping[str, Sequence[ProcessUsage]]) -> str:
    """What the processes of some pipelines use, as `render` does.

    Args:
        found: pipeline -> its processes.
    """
    return _text(PROCESS_METRICS, "pipeline", [((name,), usages) for name, usages in found.items()])


def render_host(usage: HostUsage) -> str:
    """What the machine has left, as `render` does."""
    return _text(HOST_METRICS, "", [((), usage)])


def render_traffic(traffic: Traffic) -> str:
    """All metrics of the gateways, as `render` does."""
    return _text(GATEWAY_METRICS, "", [((), traffic)])


def render_frames(pipeline: str, outcomes: Mapping[str, int]) -> str:
    """All metrics of a `pipeline detector`, as `render` does.

    Args:
        pipeline: its name.
        outcomes: how many frames ended in which way.
    """
    return _text(DETECTOR_METRICS, "pipeline", [((pipeline,), outcomes)])


def _text(metrics: Iterable[Metric[_S]], of: str, subjects: Sequence[tuple[tuple[str, ...], _S]]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected([_family(metric, of, subjects) for metric in metrics]))
    return generate_latest(registry).decode()


def _family(metric: Metric[_S], of: str, subjects: Sequence[tuple[tuple[str, ...], _S]]) -> Family:
    names = (*([of] if of else ()), *metric.labels)
    family: Any = _FAMILIES[metric.kind](metric.name, metric.help, labels=names)
    for own, subject in subjects:
        for labels, value in metric.samples(subject):
            if isinstance(value, HistogramStatus):
                family.add_metric((*own, *labels), labelled(metric.bounds, value.buckets), value.sum)
            else:
                family.add_metric((*own, *labels), value)
    made: Family = family
    return made
