"""Frigate's detectors over `pipeline detector`: whatever is killed, none gets the boxes of another one's frame."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from pipeline.testing import RunningPipeline, running
from tests.faults.load import until
from tests.finding import Asker, expected, finder


@contextmanager
def detector(pipeline: RunningPipeline) -> Iterator[str]:
    """The command, over a pipeline that runs; the address at which it listens."""
    command = [sys.executable, "-m", "pipeline", "detector", str(pipeline.run_dir), "--zmq", "tcp://127.0.0.1:*"]
    child = subprocess.Popen([*command, "--deadline-ms", "30000"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.stdout.readline().split()[-1]
        child.send_signal(signal.SIGTERM)
        assert child.wait(200) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def staffed(pipeline: RunningPipeline, dead: int) -> bool:
    pids = pipeline.worker_pids("find")
    return len(pids) == 2 and dead not in pids


def test_workers_and_the_scheduler_are_killed_under_load_and_no_detector_gets_the_boxes_of_another(
    tmp_path: Path, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    stopped = threading.Event()
    answered: list[int] = []
    wrong: list[object] = []

    def ask(endpoint: str, number: int) -> None:
        asker = Asker(endpoint)
        turn = 0
        while not stopped.is_set():
            value = (number * 15 + turn) % 250
            found = asker.found(value)
            if found is not None:
                answered.append(value)
                if not np.array_equal(found, expected(value)):
                    wrong.append((value, found[0]))
            turn += 1
        asker.close()

    def goes_on(count: int) -> bool:
        return len(answered) > count

    with running(finder(tmp_path, replicas=2)) as pipeline, detector(pipeline) as endpoint:
        threads = [threading.Thread(target=ask, args=(endpoint, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                until(partial(goes_on, len(answered) + 50))
                (victim, _) = pipeline.worker_pids("find")
                os.kill(victim, signal.SIGKILL)
                until(partial(staffed, pipeline, victim))
            with pipeline.client() as client:
                assert client.status()["counts"]["worker_deaths"] == 3
            scheduler = child_of(pipeline.pid, "scheduler")
            assert scheduler is not None
            scheduler.kill()
            scheduler.wait(200)
            until(partial(goes_on, len(answered) + 50))
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert pipeline.stop() == 0
