"""`pipeline bench`: LoadGen, the real one, drives real pipelines. The rates are low: nothing is measured here."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing import running
from tests.integration.conftest import Folder

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed: there is no wheel for this machine, or no index")
Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("scenario", "arguments"),
    [
        ("server", ("--target-qps", 30, "--target-latency-ms", 2000, "--min-duration", 5, "--query-count", 100)),
        ("offline", ("--target-qps", 200, "--min-duration", 1, "--query-count", 200)),
        ("singlestream", ("--min-duration", 1, "--query-count", 100)),
    ],
)
def test_loadgen_finds_a_run_of_each_scenario_valid(cli: Cli, tmp_path: Path, scenario: str, arguments: Any) -> None:
    code, out, err = cli(
        "bench", "--mlperf", scenario, ROOT / "configs/mnist.yaml", *arguments, "--output", tmp_path / "logs"
    )
    assert "Mode     : PerformanceOnly" in out
    assert "It is no MLPerf result" in out
    assert (code, re.findall(r"^Result is : (\w+)$", out, re.MULTILINE)) in ((0, ["VALID"]), (1, ["INVALID"])), err
    # How fast this machine is now is not asserted, except where only time was wanted.
    if scenario == "singlestream":
        assert code == 0, out
    assert (tmp_path / "logs/mlperf_log_detail.txt").read_text().startswith(":::MLLOG")


def test_samples_that_fail_make_its_verdict_count_for_nothing(folder: Folder, cli: Cli) -> None:
    path = folder.file("poison", b"poison")
    with running(folder.config({"with": {"how": "bad_input"}})) as pipeline:
        code, _, err = cli(
            "bench", "--mlperf", "singlestream", pipeline.run_dir, "--input", f"data={path}",
            "--min-duration", 0.2, "--query-count", 64,
        )  # fmt: skip
        answers = pipeline.status()["answers"]
    assert code == 1
    (count,) = re.findall(r"failed: (\d+) x BadInput; LoadGen counts them as answered", err)
    assert int(count) == answers["BadInput"] >= 64


def test_ctrl_c_ends_it_and_its_pipeline(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started(
        "bench", "--mlperf", "server", ROOT / "configs/mnist.yaml", "--min-duration", 60,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while "ready" not in process.stderr.readline():
        pass
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, "LoadGen gives no verdict on a part" in err) == (130, True)


def test_a_pipeline_that_does_not_run_is_told(cli: Cli) -> None:
    code, out, err = cli("bench", "--mlperf", "singlestream", "no-pipeline-of-this-name")
    assert (code, out, err.startswith("error: ")) == (1, "", True)
