"""`python -m bench.callers` as a user runs it: every way to call, with real pipelines; and its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.callers.__main__ import CALLERS

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[4]
COMMAND = [sys.executable, "-m", "bench.callers", "--sizes", "4096", "--rounds", "1"]


def test_every_way_to_call_is_measured_checked_and_leaves_nothing_behind(tmp_path: Path) -> None:
    written = tmp_path / "callers.json"
    run = subprocess.run(
        [*COMMAND, "--seconds", "0.02", "--json", str(written)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    cells = json.loads(written.read_text())["cells"]
    assert [(cell["subject"], cell["window"]) for cell in cells] == [
        ("direct", 1), ("blocking", 1),
        ("threads", 1), ("threads", 4), ("threads", 16), ("threads-many", 1), ("threads-many", 16), ("threads-many", 64),
        ("asyncio", 1), ("asyncio", 64), ("asyncio", 1024),
        ("asyncio-many", 1), ("asyncio-many", 16), ("asyncio-many", 64),
    ]  # fmt: skip
    for cell in cells:
        (repeat,) = cell["repeats"]
        assert repeat["requests"] >= cell["window"]
        assert repeat["p50_us"] <= repeat["p99_us"]
        groups = repeat["groups_us"]
        assert list(groups) == ["caller"] + ["scheduler", "workers", "supervisor"] * (cell["subject"] != "direct")
        assert sum(groups.values()) == pytest.approx(repeat["cpu_us"])
        assert all(groups[name] > 0 for name in groups if name != "supervisor")
        assert cell["subject"] in run.stdout


@pytest.mark.parametrize("subject", ["threads", "asyncio"])
@pytest.mark.parametrize("death", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_pipeline_outlives_a_run_that_is_ended(death: signal.Signals, subject: str) -> None:
    run = subprocess.Popen(
        [*COMMAND, "--subjects", subject, "--seconds", "60"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while len(family := psutil.Process(run.pid).children(recursive=True)) < 5:
            time.sleep(0.01)
        run.send_signal(death)
        _, errors = run.communicate()
    finally:
        run.kill()
        run.wait()
    assert b"Traceback" not in errors
    # Those of a run that was killed end by themselves.
    psutil.wait_procs(family)


def test_a_subject_that_is_not_there_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        CALLERS.main(["--subjects", "asincio"])
    assert "no subject 'asincio'; there are direct, blocking, threads," in capsys.readouterr().err
