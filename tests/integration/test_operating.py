"""What an operator does with a run: lists it, watches it, reads its log, stops it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import connect
from pipeline.client.reloading import reload
from pipeline.errors import PipelineError, Unavailable
from pipeline.testing import RunningPipeline, running
from tests.integration.conftest import Folder

SECRET = "api-key-of-the-operator-77c1"
LINGER = """\
import time

from stages.spec import TensorSpec

class Linger:
    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)
    outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536}),)

    def process(self, batch):
        for row, data in enumerate(batch.rows("data")):
            while data.tobytes() == b"linger":
                time.sleep(0.1)
            batch.out(row, "data", data.shape)[...] = data
"""


@pytest.fixture
def pipeline(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPipeline]:
    """A pipeline with a request in it that never ends, if one is sent as b"linger"."""
    monkeypatch.setenv("KEY_OF_TESTS", SECRET)
    (folder.path / "linger.py").write_text(LINGER)
    config = folder.config(
        {"use": "./linger.py:Linger", "replicas": 2, "env": {"API_KEY": "${KEY_OF_TESTS}"}}, name="detect", drain_s=5
    )
    with running(config) as pipeline:
        yield pipeline


def until(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.02)


def test_a_run_is_listed_watched_and_stopped_and_its_log_stays(
    pipeline: RunningPipeline, cli: Callable[..., Any], started: Callable[..., subprocess.Popen[str]]
) -> None:
    run = pipeline.run_dir.name
    asked = cli("client", "sync", run, "--count", 3, "--shape", "data=4", "--json")
    assert asked.code == 0, asked.err

    (row,) = json.loads(cli("ps", "--json").out)
    assert (row["id"], row["pid"], row["state"], row["stages"]) == (run, pipeline.pid, "ready", ["s0"])
    assert (row["answered"], row["failed"], row["inside"]) == (3, 0, 0)
    assert row["memory"] > 1 << 20

    frame = json.loads(cli("top", run, "--once", "--json", "--interval", 0.2).out)
    assert (frame["run"], frame["ready"], frame["seconds"] >= 0.2) == (run, True, True)
    assert [row["title"] for row in frame["processes"]] == ["supervisor", "scheduler", "s0/0", "s0/1"]
    assert all(row["cpu"] is not None for row in frame["processes"])
    assert cli("top", run, "--once", "--interval", 0.2).out.startswith(f"{run}: ready, up ")

    os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
    until(lambda: "s0/0 died" in cli("logs", run).out)
    log = Path(os.environ["XDG_STATE_HOME"]) / "trtlab" / "logs" / f"{run}.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    following = started("logs", run, "-f", "-n", 0, stdout=subprocess.PIPE, text=True)

    with pipeline.client() as client:
        client.submit(data=np.frombuffer(b"linger", np.uint8))
        until(lambda: bool(pipeline.status()["inside"]))
        waited = cli("stop", run, "--timeout", 0)
        # Before that stands what the run itself says of its drain, if it has said it by now.
        last = waited.out.splitlines()[-1]
        assert (waited.code, last.startswith(f"{run} has not ended yet: 1 requests inside")) == (3, True), waited.out
        (row,) = json.loads(cli("ps", "--json").out)
        assert (row["state"], row["reasons"], row["inside"]) == ("stopping", {}, 1)
        # It waits for the drain, too: a second SIGTERM would stop the run at once.
        stopped = cli("stop", run)
    assert (stopped.code, stopped.err) == (1, "")
    said = stopped.out.splitlines()
    assert any(line.startswith("warning: not finished within 5 s: request 1 of test") for line in said)
    assert said[-1] == f"{run} has ended with exit code 1"
    assert pipeline.wait() == 1
    followed = following.communicate(timeout=200)[0]
    assert following.returncode == 0
    assert followed.splitlines()[-1].endswith("Z info: ended with exit code 1")
    assert cli("logs", "detect").out.endswith(followed)
    assert SECRET not in log.read_text()
    assert cli("ps").err.startswith("no pipeline runs here")


def test_who_waits_for_an_answer_is_told_that_the_run_was_stopped_at_once(
    pipeline: RunningPipeline, cli: Callable[..., Any]
) -> None:
    with pipeline.client() as client, connect(pipeline.run_dir) as manager:
        futures = [
            client.submit(data=np.frombuffer(b"linger", np.uint8)),
            manager.infer_runner("detect").infer(data=np.frombuffer(b"linger", np.uint8)),
        ]
        until(lambda: pipeline.status()["inside"] == 2)
        assert cli("stop", "detect", "--now").code == 1
        for future in futures:
            with pytest.raises(Unavailable, match="pipeline detect was stopped; ask again"):
                future.get(200)
    assert pipeline.wait() == 1


@pytest.mark.foreign
def test_a_new_version_is_stopped_by_its_id_and_at_once(
    pipeline: RunningPipeline, cli: Callable[..., Any]
) -> None:
    before = pipeline.run_dir.name
    after = reload(before).name
    (row,) = json.loads(cli("ps", "--json").out)
    assert row["id"] == after != before
    # The one that was started first leads to it.
    assert json.loads(cli("top", before, "--once", "--json", "--interval", 0.2).out)["run"] == after
    with pipeline.client() as client:
        future = client.submit(data=np.frombuffer(b"linger", np.uint8))
        until(lambda: bool(json.loads(cli("status", after, "--json").out)["inside"]))
        stopped = cli("stop", after, "--now")
        with pytest.raises(PipelineError):
            future.get(200)
    assert (stopped.code, stopped.err) == (1, "")
    assert "warning: stopping at once" in stopped.out.splitlines()
    assert pipeline.wait() == 1
