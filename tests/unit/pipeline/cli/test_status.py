"""--request shows what has happened to one request; --probe answers Kubernetes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from bench.titles import in_role
from pipeline.cli.main import main
from pipeline.cli.status import _show, given_up
from pipeline.cli.tables import make_console
from pipeline.testing.running import running
from pipeline.wire.status import PipelineStatus, ReloadsStatus, ReloadStatus, StageStatus, WorkerStatus

CONFIG = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [64]}
stages:
  - {name: one, use: "stages.relay:Relay", with: {shape: [64]}}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def test_what_has_happened_to_a_request_is_shown_by_its_id(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(CONFIG)
    with running(config) as started:
        with started.client() as client:
            future = client.submit(tensor=np.zeros(64, np.uint8))
            future.get(30)
            code, out, _ = run("status", started.run_dir, "--request", future.request)
        assert code == 0
        assert out.splitlines()[0] == f"request {future.request}"
        said = [line.partition(" ms  ")[2] for line in out.splitlines()[1:]]
        assert said == ["came", "ordered: one from worker 0", "one has finished", "answered"]
        code, out, error = run("status", started.run_dir, "--request", "00000-1")
    assert (code, out) == (1, "")
    assert error.startswith("no request 00000-1 is known: expected the id of one that is inside")


def test_a_request_is_shown_alone(run: Run) -> None:
    assert run("status", "--request", "3fa9c-17", "--json")[0] == 2


SLOW = """\
inputs:
  - {name: tensor, dtype: uint8, shape: [64]}
stages:
  - {name: one, use: "./slow.py:Slow", restart: {max: 1}}
"""
STAGE = """\
import time
from pathlib import Path

from stages.spec import TensorSpec

HERE = Path(__file__).parent

class Slow:
    inputs = (TensorSpec("tensor", "uint8", (64,)),)
    outputs = (TensorSpec("made", "uint8", (64,)),)

    def setup(self, context):
        if (HERE / "die").exists():
            raise SystemExit(3)
        while (HERE / "wait").exists():
            time.sleep(0.01)

    def process(self, batch):
        batch.stack_out("made")[...] = batch.stack("tensor")
"""


def until(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.02)


def test_a_pipeline_that_starts_a_worker_again_is_alive_and_not_ready(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "slow.yaml"
    config.write_text(SLOW)
    (tmp_path / "slow.py").write_text(STAGE)
    with running(config) as started:
        probe = ("status", started.run_dir, "--probe")
        assert run(*probe, "ready") == (0, "slow: ready\n", "")
        assert run(*probe, "alive") == (0, "slow: alive\n", "")
        (tmp_path / "wait").touch()
        os.kill(started.worker_pids("one")[0], signal.SIGKILL)
        until(lambda: run(*probe, "ready")[0] == 1)
        code, out, _ = run(*probe, "ready")
        assert (code, out.count("\n")) == (1, 1)
        assert out.startswith("slow: not ready: one: ")
        assert run(*probe, "alive") == (0, "slow: alive\n", "")
        (tmp_path / "wait").unlink()
        until(lambda: run(*probe, "ready")[0] == 0)


def test_a_pipeline_that_has_given_a_stage_up_is_not_alive(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "slow.yaml"
    config.write_text(SLOW)
    (tmp_path / "slow.py").write_text(STAGE)
    with running(config) as started:
        probe = ("status", started.run_dir, "--probe", "alive")
        (tmp_path / "die").touch()
        os.kill(started.worker_pids("one")[0], signal.SIGKILL)
        until(lambda: run(*probe)[0] == 1)
        code, out, _ = run(*probe)
        assert (code, out.count("\n")) == (1, 1)
        assert out.startswith("slow: not alive: one: ")


def test_a_pipeline_whose_scheduler_does_not_answer_is_not_alive(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(CONFIG)
    with running(config) as started:
        (scheduler,) = in_role(started.pid, "scheduler")
        scheduler.suspend()
        try:
            code, out, err = run("status", started.run_dir, "--probe", "alive")
        finally:
            scheduler.resume()
    assert (code, out) == (1, "")
    assert "does not answer within 5 s: the machine is too busy" in err


def test_a_pipeline_that_is_not_there_is_neither(run: Run) -> None:
    for question in ("ready", "alive"):
        code, out, err = run("status", "--probe", question, "--", "-none-")
        assert (code, out) == (1, "")
        assert "no pipeline '-none-' is running here" in err


@pytest.mark.parametrize("other", [["--json"], ["--prometheus"], ["--pages"], ["--request", "3fa9c-17"]])
def test_a_probe_answers_one_question(run: Run, other: list[str]) -> None:
    code, _, err = run("status", "--probe", "ready", *other)
    assert (code, err.startswith("--probe answers one question")) == (2, True)


def test_a_stage_that_gets_no_more_workers_says_why_while_it_has_some_and_reloads_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = WorkerStatus(1, "one/1", 1, 1, 0, 4, 0, 0)
    stage = StageStatus("one", 2, 0, "died too often", 6, 0, 0, {}, 0, None, (worker,), ())
    reload = ReloadStatus("one", "/a.yaml", "demo-7", 100.0, ended_s=103.0, outcome="failed", reason="no [weights]\nhere")
    status = PipelineStatus("demo", 1, True, {}, 0, {"lost_log_lines": 0}, {}, (stage,), (), (), (), (), 10.0)
    _show(replace(status, reloads=ReloadsStatus(None, reload, {})), make_console())
    shown = capsys.readouterr().out
    assert "no more workers of one are started: died too often\n" in shown
    assert "\nreload: the last one failed " in shown
    assert "\n  no [weights]\n  here\n" in shown
    assert "since the start: nothing yet" in shown
    _show(status, make_console())
    assert "reload" not in capsys.readouterr().out


def test_a_stage_that_is_given_up_but_has_workers_is_alive() -> None:
    worker = WorkerStatus(1, "one/1", 1, 1, 0, 4, 0, 0)
    stage = StageStatus("one", 2, 0, "died too often", 6, 0, 0, {}, 0, None, (), ())
    status = PipelineStatus("demo", 1, False, {}, 0, {}, {}, (stage,), (), (), (), (), 10.0)
    assert given_up(status) == {"one": "died too often"}
    stage = StageStatus("one", 2, 0, "died too often", 6, 0, 0, {}, 0, None, (worker,), ())
    status = PipelineStatus("demo", 1, False, {}, 0, {}, {}, (stage,), (), (), (), (), 10.0)
    assert given_up(status) == {}
