"""A stage that cannot be brought back: its requests fail with the reason, and the probe shows it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.client.status import ask_status
from pipeline.errors import StageUnavailable
from pipeline.testing import running
from tests.faults.load import until


def test_a_stage_whose_setup_fails_at_every_restart_is_given_up_and_says_so(
    folder: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    broken = {"with.starts": str(tmp_path / "starts"), "restart": {"max": 2, "per_s": 60}}
    with running(folder.config({}, broken)) as pipeline, pipeline.client() as client:
        with client.submit(data=b"x").get(200) as result:
            assert result["data"].tobytes() == b"x"
        assert cli("status", pipeline.run_dir).code == 0
        os.kill(pipeline.worker_pids("s1")[0], signal.SIGKILL)
        waiting = client.submit(data=b"waits")
        with pytest.raises(StageUnavailable, match="stage s1: its workers died 3 times within 60 s"):
            waiting.get(200)
        with pytest.raises(StageUnavailable):
            client.submit(data=b"later").get(200)
        status = ask_status(pipeline.run_dir)
        assert not status.ready
        assert "broken: its workers died 3 times" in status.reasons["s1"]
        shown = cli("status", pipeline.run_dir)
        assert shown.code == 1
        assert "not ready" in shown.out
        assert "broken" in shown.out
        until(lambda: pipeline.log().count("s1/0 could not start again: RuntimeError: the model file is gone") == 3)
        assert pipeline.stop() == 0


def test_one_broken_replica_of_two_leaves_the_other_one_at_work(folder: Any, tmp_path: Path) -> None:
    stage = {
        "replicas": 2, "with.starts": str(tmp_path / "starts"), "with.good_starts": 2, "restart": {"max": 1, "per_s": 60},
    }  # fmt: skip
    with running(folder.config(stage)) as pipeline, pipeline.client() as client:
        os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
        until(lambda: "is broken" in pipeline.log())
        with client.submit(data=b"x").get(200) as result:
            assert result["data"].tobytes() == b"x"
        assert len(pipeline.worker_pids("s0")) == 1
        assert pipeline.stop() == 0
