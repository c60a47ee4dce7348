"""examples/ray_serve.py in a Ray of its own: a replica is killed under load, Ray starts another, and nothing is left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shm import leftovers

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
RAY = ROOT / "build/ray"

PATIENT = {
    # Serve kills its proxy, and gives up, if that has not started within three times 5 s: on a busy machine its imports
    # take longer.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "240", "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "240",
    "RAY_raylet_start_wait_time_s": "90", "RAY_health_check_timeout_ms": "240000",
    "RAY_gcs_server_request_timeout_seconds": "240",
    # Other processes of the machine are no reason to kill one of Ray's.
    "RAY_memory_monitor_refresh_ms": "0",
}  # fmt: skip
"""Ray's limits of time and memory are those of a machine that has nothing else to do."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For sockets, whose paths have at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


@pytest.mark.timeout(1250)  # a minute, if the machine has nothing else to do
def test_a_killed_replica_takes_its_pipeline_with_it_and_ray_starts_another(
    tmp_path: Path, environment: Callable[[Path], Path], short_folder: Path
) -> None:
    environment(RAY)
    runs = short_folder / "runs"
    runs.mkdir(mode=0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [RAY / "bin/python", "-m", "tests.foreign.ray_probe", str(port), short_folder / "ray"], cwd=ROOT, capture_output=True, text=True,
        timeout=1200, check=False,
        env={
            **os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TRTLAB_RUN_DIR": str(runs),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_enable_metrics_collection": "0", **PATIENT,
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # The supervisor, the scheduler and the workers of a pipeline.
    assert found["family"] >= 4
    assert found["right"] > 20
    assert found.get("wrong", 0) == 0
    # What the replica had under way, of two callers that ask one after the other.
    assert found.get("lost", 0) <= 2
    assert [found.name for found in leftovers.scan() if found.state.path.startswith(str(runs))] == []
    assert list(runs.iterdir()) == []
