"""Grafana's own package of types reads the dashboard, and gives all of it back: it has no field that Grafana does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]

READ = """
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
json.dump(Dashboard.from_json(json.load(sys.stdin)), sys.stdout, cls=JSONEncoder)
"""


@pytest.fixture
def read(environment: Callable[[Path], Path]) -> Callable[[Any], Any]:
    """What the package makes of a dashboard."""
    folder = environment(ROOT / "build/grafana-sdk")

    def read(dashboard: Any) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", READ], input=json.dumps(dashboard), capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(folder)},
        )  # fmt: skip
        return json.loads(done.stdout)

    return read


def lost(wrote: Any, read: Any, path: str = "") -> list[str]:
    """Where something that was written is missing or different; what the package adds is its defaults."""
    if isinstance(wrote, dict) and isinstance(read, dict):
        return [at for key, value in wrote.items() for at in lost(value, read.get(key), f"{path}.{key}")]
    if isinstance(wrote, list) and isinstance(read, list) and len(wrote) == len(read):
        return [at for n, (a, b) in enumerate(zip(wrote, read)) for at in lost(a, b, f"{path}[{n}]")]
    return [] if wrote == read else [path]


def test_grafana_knows_every_field_of_the_dashboard(read: Callable[[Any], Any]) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    assert lost(dashboard, read(dashboard)) == []


def test_a_field_that_grafana_does_not_know_would_be_found(read: Callable[[Any], Any]) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    dashboard["panels"][1]["fieldConfig"]["defaults"]["unti"] = "s"
    dashboard["panels"][-1]["targets"][0]["expression"] = "up"
    assert len(lost(dashboard, read(dashboard))) == 2
