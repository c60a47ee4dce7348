"""`pipeline bench`: LoadGen, the real one, drives real pipelines. The rates are low: nothing is measured here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.load.inputs import make_stock
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


@pytest.mark.parametrize("rows", [1, 8])
def test_loadgen_gets_the_answer_of_each_sample_whether_it_went_alone_or_with_others(
    cli: Cli, tmp_path: Path, rows: int
) -> None:
    with running(ROOT / "configs/mnist.yaml", [f"ingress.rows={rows}"]) as pipeline:
        _, out, _ = cli(
            "bench", "--mlperf", "offline", pipeline.run_dir, "--target-qps", 400, "--min-duration", 1,
            "--query-count", 400, "--output", tmp_path, "--log-answers", 100,
        )  # fmt: skip
        told = "of one row each" if rows == 1 else "of up to 8 rows"
        assert re.search(rf"^requests: \d+ {told}", out, re.MULTILINE)
        logged = json.loads((tmp_path / "mlperf_log_accuracy.json").read_text())
        assert len({each["qsl_idx"] for each in logged}) > 1
        with pipeline.client() as client:
            stock = make_stock(client.interface.specs, {}, {})
            expected = [client.submit(**stock.of(number)).get(30) for number in range(len(stock.requests))]
    for each in logged:
        (scores,) = expected[each["qsl_idx"]].values()
        found = np.frombuffer(bytes.fromhex(each["data"]), np.float32)
        # In batches of other sizes the model's last bits may differ.
        np.testing.assert_allclose(found, scores.ravel(), rtol=1e-4, atol=1e-4)


def test_answers_are_logged_only_where_the_log_is_kept(cli: Cli) -> None:
    code, out, err = cli("bench", "--mlperf", "offline", "no-pipeline-of-this-name", "--log-answers", 5)
    assert (code, out, "--output DIR keeps it" in err) == (2, "", True)


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
