"""Prometheus' own tool reads what we render, and tries our rules.

It comes from the PATH, or else out of the package `prometheus` of the distribution, which is unpacked and not installed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.metrics.processes import ProcessUsage
from pipeline.metrics.rendering import render, render_processes, render_traffic
from pipeline.metrics.traffic import JOINED_IN, Traffic
from tests.unit.pipeline.metrics.test_rendering import status

pytestmark = pytest.mark.foreign

RULES = Path(__file__).parents[2] / "deploy/prometheus"

Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Promtool:
    """Runs promtool: (arguments, text for its stdin) -> what came of it."""
    found = shutil.which("promtool") or _unpacked(tmp_path_factory.mktemp("prometheus"))

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([found, *arguments], input=text, capture_output=True, text=True, cwd=RULES, check=False)

    return run


def _unpacked(folder: Path) -> str:
    for command in (["apt-get", "download", "prometheus"], ["sh", "-c", "dpkg -x prometheus_*.deb ."]):
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"no promtool: {command[0]}: {error}")
        if done.returncode:
            pytest.skip(f"no promtool: {' '.join(command)}: {done.stderr.strip()}")
    return str(folder / "usr/bin/promtool")


def test_the_metrics_pass_its_check(promtool: Promtool) -> None:
    traffic = Traffic()
    traffic.answered("http", "OK")
    traffic.took("http", 0.002)
    traffic.copy(JOINED_IN, 5)
    text = render(status()) + render_processes({"pets": [ProcessUsage("scheduler", 1.5, 9, 2, 3.0)]}) + render_traffic(traffic)
    done = promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_would_find_a_name_against_the_rules(promtool: Promtool) -> None:
    text = "# HELP trtlab_x_milliseconds Of x.\n# TYPE trtlab_x_milliseconds counter\ntrtlab_x_milliseconds 1\n"
    assert promtool("check", "metrics", text=text).returncode != 0


def test_the_rules_do_what_their_examples_say(promtool: Promtool) -> None:
    checked = promtool("check", "rules", "rules.yaml")
    assert checked.returncode == 0, checked.stderr
    tried = promtool("test", "rules", "rules_test.yaml")
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_a_rule_that_is_wrong_fails_its_example(promtool: Promtool, tmp_path: Path) -> None:
    text = (RULES / "rules.yaml").read_text()
    assert "trtlab_ready == 0" in text
    (tmp_path / "rules.yaml").write_text(text.replace("trtlab_ready == 0", "trtlab_ready == 2"))
    shutil.copy(RULES / "rules_test.yaml", tmp_path)
    tried = promtool("test", "rules", str(tmp_path / "rules_test.yaml"))
    assert tried.returncode != 0
    assert "TrtlabNotReady" in tried.stdout + tried.stderr
