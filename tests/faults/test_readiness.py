"""Ready means that a known good request went through every stage a moment ago."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.client.status import ask_status
from pipeline.testing import running
from tests.faults.load import until


def test_ready_follows_the_canary_through_every_stage(
    folder: Any, tmp_path: Path, cli: Callable[..., Any], child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    (tmp_path / "canary.bin").write_bytes(b"canary")
    config = folder.config({}, {}, canary={"input": "canary.bin", "every_s": 0.2})
    with running(config) as pipeline:

        def reasons() -> dict[str, str]:
            status = ask_status(pipeline.run_dir)
            found: dict[str, str] = status.reasons
            assert status.ready == (not found)
            return found

        until(lambda: not reasons())
        # A stage that hangs: its process lives.
        (pid,) = pipeline.worker_pids("s1")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "no request has passed it for" in reasons().get("s1", ""))
        shown = cli("status", pipeline.run_dir)
        assert shown.code == 1
        assert "s1: no request has passed it for" in shown.out
        os.kill(pid, signal.SIGCONT)
        until(lambda: not reasons())
        # The canary itself is killed: another one takes its place before readiness changes.
        canary = child_of(pipeline.pid, "canary")
        assert canary is not None
        canary.kill()
        until(lambda: (found := child_of(pipeline.pid, "canary")) is not None and found.pid != canary.pid)
        until(lambda: not reasons())
        assert pipeline.stop() == 0


def test_not_ready_while_a_stage_has_no_worker(folder: Any) -> None:
    with running(folder.config({"with.setup_s": 0.5})) as pipeline:
        assert ask_status(pipeline.run_dir).ready
        os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        until(lambda: ask_status(pipeline.run_dir).reasons == {"s0": "no worker is ready"})
        until(lambda: ask_status(pipeline.run_dir).ready)
        assert pipeline.stop() == 0
