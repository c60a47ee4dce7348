"""A worker dies under a siege."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.testing import running
from tests.faults.conftest import Folder

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign


def test_a_siege_sees_no_error_while_workers_are_killed(
    folder: Folder, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    with running(folder.config({"replicas": 2, "restart": {"max": 100}})) as pipeline:
        siege = started(
            "siege", pipeline.run_dir, "--rate", 100, "--seconds", 5, "--timeout", 90, "--json", "--shape", "data=8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        killed = 0
        while siege.poll() is None and killed < 3:
            # While answers come, and never the last worker: a worker that is always killed at once answers nothing.
            status = pipeline.status()
            if status["answers"].get("OK", 0) > 20 * (killed + 1) and len(pids := pipeline.worker_pids("s0")) == 2:
                os.kill(pids[killed % 2], signal.SIGKILL)
                killed += 1
            time.sleep(0.05)
        out, err = siege.communicate()
    assert siege.returncode == 0, err
    report = json.loads(out)
    assert (report["sent"], report["answered"], report["failed"]) == (500, 500, 0)
    assert killed >= 1
