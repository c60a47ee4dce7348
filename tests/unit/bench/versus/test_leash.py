"""What the benchmark starts does not outlive it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[4]


def test_a_program_on_the_leash_ends_with_the_one_that_has_started_it() -> None:
    code = (
        "import subprocess, time; from bench.versus.leash import leashed\n"
        "print(subprocess.Popen(leashed(['sleep', '600'])).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        try:
            parent.kill()
            psutil.wait_procs([child], 30)
            assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        finally:
            if child.is_running():
                child.kill()
