"""A pipeline that is started although one of its name serves already."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from pipeline.testing import running

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "configs/mnist.yaml"


def served(config: Path) -> tuple[int, str]:
    """Serve it until it is ready; the exit code and what it has written to stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(config), "--serve"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving mnist in ")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=200)
        return process.returncode, err
    finally:
        process.kill()
        process.wait()


def test_it_is_told_that_one_serves_already_and_how_to_replace_it() -> None:
    with running(MNIST) as first:
        code, err = served(MNIST)
    assert code == 0
    assert f"warning: mnist runs already, in {first.run_dir}. Clients that ask for mnist will find this run" in err
    assert "To replace the one that runs: pipeline reload mnist" in err


def test_one_that_is_alone_is_told_nothing() -> None:
    code, err = served(MNIST)
    assert (code, [line for line in err.splitlines() if not line.startswith(("info: ", "note: "))]) == (0, [])
