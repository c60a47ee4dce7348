"""The dashboard is what its script makes of the catalogue, and every query is of metrics and rules that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from pipeline.metrics.catalogue import GATEWAY_METRICS, HOST_METRICS, METRICS, PROCESS_METRICS
from tests.docs.test_rules import rules

FOLDER = Path(__file__).parents[2] / "deploy/grafana"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_dashboard", FOLDER / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels() -> list[dict[str, Any]]:
    found = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    assert isinstance(found, list)
    return found


def test_the_dashboard_is_what_the_script_makes() -> None:
    assert (FOLDER / "dashboard.json").read_text() == script().render()


def test_each_metric_has_one_panel_and_each_query_names_what_exists() -> None:
    every = [*METRICS, *PROCESS_METRICS, *HOST_METRICS, *GATEWAY_METRICS]
    titles = [panel["title"] for panel in panels() if panel["type"] == "timeseries"]
    assert sorted(titles) == sorted(metric.name for metric in every)
    known = {f"{metric.name}{suffix}" for metric in every for suffix in SUFFIXES[metric.kind]}
    known |= {rule["record"] for rule in rules() if "record" in rule}
    named = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert {name for text in named for name in re.findall(r"\btrtlab[\w:]*", text)} <= known


def test_no_two_panels_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
