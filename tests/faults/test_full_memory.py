"""If /dev/shm is too small, the start is refused with the sum; while a pipeline runs, a full one does no harm."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from pipeline.interpreter import python_command

#: A mount namespace of its own: a small tmpfs over /dev/shm that no other process sees.
PRIVATE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"']

#: Fills what is left of /dev/shm, has a worker and the scheduler killed, and asks for answers.
FILLED = """\
import os, signal, sys, time
import psutil
from pipeline.errors import Unavailable
from pipeline.testing import running
with running(sys.argv[1]) as pipeline, pipeline.client() as client:
    free = os.statvfs("/dev/shm")
    with open("/dev/shm/filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize)
        assert os.statvfs("/dev/shm").f_bavail == 0
        for round in range(3):
            for number in range(200):
                with client.submit(data=b"%d" % number).get(200) as result:
                    assert result["data"].tobytes() == b"%d" % number
            if round == 0:
                os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
            if round == 1:
                # There is no room for a second set of segments until all processes have let go of the first.
                # List the children first: the workers are ended as soon as the scheduler is dead.
                children = psutil.Process(pipeline.pid).children()
                (scheduler,) = [child for child in children if "scheduler" in " ".join(child.cmdline())]
                scheduler.kill()
                try:
                    while True:
                        client.pump(1.0)
                except Unavailable:
                    client.reconnect(30)
    while "no room beside the old segments" not in pipeline.log():
        time.sleep(0.01)
    assert client.status()["epoch"] == 1
    os.unlink("/dev/shm/filler")
    assert pipeline.stop() == 0
    assert os.listdir("/dev/shm") == []
print("answered all")
"""


@pytest.fixture(scope="module")
def private() -> list[str]:
    """The beginning of a command line: the first argument is the size of its /dev/shm."""
    tried = subprocess.run([*PRIVATE, "1m", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace of one's own here: {tried.stderr.decode().strip()}")
    return PRIVATE


def test_too_little_room_is_refused_at_the_start_with_the_sum(folder: Any, private: list[str]) -> None:
    config = folder.config({}, {})
    done = subprocess.run(
        [*private, "16k", *python_command("pipeline.__main__"), "run", str(config), "--serve"],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert re.search(r"free in /dev/shm: [\d.]+ KiB are needed, 16.0 KiB allowed", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_full_dev_shm_harms_nothing_that_runs_even_after_a_scheduler_death(folder: Any, private: list[str]) -> None:
    config = folder.config({"with.seconds": 0.001}, {})
    done = subprocess.run(
        [*private, "2m", sys.executable, "-c", FILLED, str(config)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout == "answered all\n", done.stderr
