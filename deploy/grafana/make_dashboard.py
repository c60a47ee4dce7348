"""Writes dashboard.json from the catalogue of metrics: `python deploy/grafana/make_dashboard.py`.

A test compares the two.

The form is Grafana's JSON of dashboards, schema version 39, which Grafana 10.4 and later import. Each metric of the
catalogue has one panel, by its kind:

    counter      its rate, a second
    gauge        its value
    histogram    its 50th, 90th and 99th percentile; of what is counted in rows, the mean

The rows are those of `ROWS`, and a metric that none of them names stands in the last one, so none is forgotten. Above
them is what an operator looks at first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.metrics.catalogue import GATEWAY_METRICS, HOST_METRICS, METRICS, PROCESS_METRICS, Metric

__all__ = ["render"]

DASHBOARD = Path(__file__).with_name("dashboard.json")

_EVERY: tuple[Metric[Any], ...] = (*METRICS, *PROCESS_METRICS, *HOST_METRICS, *GATEWAY_METRICS)

ROWS = {
    "Requests": ("ready", "request_", "requests_", "load_", "answers", "retries", "resized"),
    "Stages": ("stage_", "batch", "rows", "workers", "replicas"),
    "Faults": ("worker_deaths", "client_deaths", "refused", "scheduler_refused", "log_lost", "reload"),
    "Workers and processes": ("worker_", "process_"),
    "Slots, clients and copies": ("slots", "client", "copied"),
    "Cameras": ("camera_", "frame_"),
    "Machine": ("shm_", "gpu_"),
    "Gateways": ("gateway_",),
    "Others": ("",),
}
"""Title -> how the names of its metrics begin, after `trtlab_`; the first row that fits has it."""

_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit", "watts": "watt"}
"""The end of a name -> Grafana's unit."""

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 24

_FIRST = (
    ("Not ready", "count(trtlab_ready{pipeline=~\"$pipeline\"} == 0) or vector(0)", "none", 1.0),
    ("Answers a second", "sum(rate(trtlab_answers_total{pipeline=~\"$pipeline\"}[$__rate_interval]))", "reqps", None),
    ("Errors", "max(trtlab:failed_answers:ratio_5m{pipeline=~\"$pipeline\"})", "percentunit", 0.01),
    ("p99", "max(trtlab:request_duration_seconds:p99_5m{pipeline=~\"$pipeline\"})", "s", None),
    ("Load ratio", "max(trtlab:load_ratio:mean_1m{pipeline=~\"$pipeline\"})", "none", 2.0),
    ("Deaths in 10 min", "sum(increase(trtlab_worker_deaths_total{pipeline=~\"$pipeline\"}[10m]))", "none", 1.0),
)
"""Title, expression, unit, and from which value on it is red. Recorded rules are those of deploy/prometheus."""


def render() -> str:
    """The file's text."""
    panels: list[dict[str, Any]] = [_row("At a glance", 0)]
    width = _ACROSS // len(_FIRST)
    for at, first in enumerate(_FIRST):
        panels.append(_stat(*first, {"x": at * width, "y": 1, "w": width, "h": 4}))
    y = 5
    for title, metrics in _grouped().items():
        panels.append(_row(title, y))
        y += 1
        for at, metric in enumerate(metrics):
            place = {"x": at * _WIDTH % _ACROSS, "y": y + at * _WIDTH // _ACROSS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_series(metric, place))
        y += -(-len(metrics) * _WIDTH // _ACROSS) * _HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    document = {
        "title": "trtlab",
        "uid": "trtlab",
        "tags": ["trtlab"],
        "description": "Pipelines of trtlab: docs/metrics.md says what each metric is, docs/runbook.md what to do.",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_data_source(), _pipelines()]},
        "panels": panels,
    }
    return json.dumps(document, indent=1) + "\n"


def _grouped() -> dict[str, list[Metric[Any]]]:
    found: dict[str, list[Metric[Any]]] = {title: [] for title in ROWS}
    for metric in _EVERY:
        short = metric.name.removeprefix("trtlab_")
        # "Faults" has some of the names that begin as others do.
        faults = [title for title in ("Faults",) if short.startswith(ROWS[title])]
        title = (faults or [title for title, begins in ROWS.items() if short.startswith(begins)])[0]
        found[title].append(metric)
    return {title: metrics for title, metrics in found.items() if metrics}


def _series(metric: Metric[Any], place: dict[str, int]) -> dict[str, Any]:
    has_pipeline = metric not in (*HOST_METRICS, *GATEWAY_METRICS)
    chosen = '{pipeline=~"$pipeline"}' if has_pipeline else ""
    by = [*(["pipeline"] if has_pipeline else ["instance"]), *metric.labels]
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    unit = next((unit for end, unit in _UNITS.items() if metric.name.endswith(end)), "short")
    if metric.kind == "gauge":
        unit = "dateTimeFromNow" if metric.name.endswith("start_time_seconds") else unit
        value = f"{metric.name}{chosen}" + (" * 1000" if unit == "dateTimeFromNow" else "")
        targets = [(value, legend)]
    elif metric.kind == "counter":
        unit = {"bytes": "Bps", "s": "percentunit"}.get(unit, "cps")
        targets = [(f"sum by ({', '.join(by)}) (rate({metric.name}_total{chosen}[$__rate_interval]))", legend)]
    elif unit == "s":
        rate = f"sum by ({', '.join([*by, 'le'])}) (rate({metric.name}_bucket{chosen}[$__rate_interval]))"
        targets = [(f"histogram_quantile({q}, {rate})", f"p{q * 100:g} {legend}") for q in (0.5, 0.9, 0.99)]
    else:
        total, count = (
            f"sum by ({', '.join(by)}) (rate({metric.name}_{end}{chosen}[$__rate_interval]))"
            for end in ("sum", "count")
        )
        unit, targets = "short", [(f"{total} / ({count} > 0)", f"mean {legend}")]
    return {
        "type": "timeseries",
        "title": metric.name,
        "description": metric.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [_target(at, *each) for at, each in enumerate(targets)],
    }


def _stat(title: str, expression: str, unit: str, red_from: float | None, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if red_from is not None:
        steps.append({"color": "red", "value": red_from})
    return {
        "type": "stat",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}, "graphMode": "area"},
        "targets": [_target(0, expression, "")],
    }


def _target(at: int, expression: str, legend: str) -> dict[str, Any]:
    return {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}


def _row(title: str, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": _ACROSS, "h": 1}
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place}


def _data_source() -> dict[str, Any]:
    return {"type": "datasource", "name": "source", "label": "Prometheus", "query": "prometheus"}


def _pipelines() -> dict[str, Any]:
    return {
        "type": "query",
        "name": "pipeline",
        "label": "Pipeline",
        "datasource": _SOURCE,
        "query": "label_values(trtlab_ready, pipeline)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    DASHBOARD.write_text(render(), encoding="utf-8")
