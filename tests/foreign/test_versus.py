"""`make versus-triton`, `make bench-serve` and `make bench-remote` as a user runs them, for a moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.versus.environments import MOSEC, TRITON, TRITON_CLIENT
from bench.versus.subjects import SUBJECTS

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=380,
        check=False,
    )  # fmt: skip


def test_no_request_of_ours_fails_when_a_worker_is_killed_and_both_outages_are_told(
    environment: Callable[[Path], Path], tmp_path: Path
) -> None:
    environment(TRITON)
    written = tmp_path / "outages.json"
    done = run("bench.versus", "--before", 2, "--after", 4, "--patience", 120, "--callers", 4, "--json", written)
    assert (done.returncode, done.stderr) == (0, "")
    ours, triton = json.loads(written.read_text())["outages"]
    assert (ours["subject"], triton["subject"]) == ("pipeline serve", "Triton 2.51")
    assert ours["failed"] == {}
    assert ours["answered"] > 0
    # It says that it is not ready, at least once before it is again; and then it answers.
    assert ours["recovered_s"] is not None
    assert ours["model_ready"] < ours["looks"]
    # What Triton does is for the table to tell; that the kill reached it, for the test.
    assert triton["answered"] > 0
    assert sum(triton["failed"].values()) > 0
    assert "pipeline serve" in done.stdout


def test_every_server_is_measured_checked_and_leaves_nothing_behind(
    environment: Callable[[Path], Path], tmp_path: Path
) -> None:
    environment(TRITON)
    environment(MOSEC)
    written = tmp_path / "rates.json"
    done = run("bench.versus.rates", "--rounds", 1, "--seconds", 0.2, "--sizes", 65536, "--json", written)
    assert (done.returncode, done.stderr) == (0, "")
    cells = json.loads(written.read_text())["cells"]
    assert [(cell["subject"], cell["window"]) for cell in cells] == [(name, w) for name in SUBJECTS for w in (1, 16)]
    for cell in cells:
        (repeat,) = cell["repeats"]
        # Of a busy machine, the first of a window may be all that is answered in time.
        assert repeat["requests"] > 0
        assert repeat["groups_us"]["caller"] > 0
        assert sum(repeat["groups_us"].values()) == pytest.approx(repeat["cpu_us"])


def test_a_remote_stage_and_the_plain_loop_give_the_same_answers_and_their_rates_are_told(
    environment: Callable[[Path], Path], tmp_path: Path
) -> None:
    environment(TRITON)
    environment(TRITON_CLIENT)
    written = tmp_path / "remote.json"
    done = run("bench.versus.remote_stage", "--photographs", 30, "--rounds", 2, "--json", written)
    assert done.returncode == 0, done.stderr
    report = json.loads(written.read_text())
    assert [len(report["seconds"][name]) for name in ("loop", "pipeline")] == [2, 2]
    assert len(report["ratios"]) == 2
    assert "ratio" in done.stdout
