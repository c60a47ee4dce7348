"""A segment of a living run is truncated: a process that touches it dies by SIGBUS; the run goes on with new segments, or ends and says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.client.status import ask_status
from pipeline.errors import Unavailable
from pipeline.testing import RunningPipeline, running
from shm import leftovers
from tests.faults.load import Load, until

SHM = Path("/dev/shm")


def ready(pipeline: RunningPipeline, epoch: int) -> bool:
    try:
        status = ask_status(pipeline.run_dir)
    except Unavailable:
        return False
    return bool(status.ready and status.epoch == epoch)


def truncate(pipeline: RunningPipeline, pool: str) -> Path:
    (found,) = [found for found in leftovers.scan() if (found.run, found.pool) == (pipeline.run_dir.name, pool)]
    path = SHM / found.name.lstrip("/")
    os.truncate(path, 0)
    return path


def test_segments_that_are_truncated_or_removed_are_replaced_before_they_are_needed(folder: Any) -> None:
    stage = {"restart": {"max": 0}}
    with running(folder.config(stage, stage)) as pipeline:
        truncate(pipeline, "s0")
        until(lambda: "a segment is damaged, so all are replaced" in pipeline.log())
        until(lambda: ready(pipeline, epoch=1))
        # As if a person cleaned up: the flight records too.
        for path in SHM.glob(f"trtlab.{pipeline.run_dir.name}.*"):
            path.unlink()
        until(lambda: pipeline.log().count("a segment is damaged, so all are replaced") == 2)
        until(lambda: ready(pipeline, epoch=2))
        with pipeline.client() as client:
            load = Load(client)
            load.more(30)
            # A process that starts now finds them.
            os.kill(pipeline.worker_pids("s0")[0], signal.SIGKILL)
            load.more(30)
            load.finish()
        assert "could not start again" not in pipeline.log()
        assert pipeline.stop() == 0


@pytest.mark.parametrize("pool", [pytest.param("s0", marks=pytest.mark.foreign), "s1"])
def test_a_run_whose_slots_are_cut_off_goes_on_with_new_segments(folder: Any, pool: str) -> None:
    with running(folder.config({"with.seconds": 0.002, "restart": {"max": 2}}, {}, {})) as pipeline, pipeline.client() as client:
        load = Load(client)
        load.more(30)
        truncate(pipeline, pool)
        load.until(lambda: "the scheduler died (killed by signal" in pipeline.log())
        load.more(60)
        load.finish()
        assert client.status()["reasons"] == {}
        assert pipeline.stop() == 0


def test_a_run_whose_flight_records_are_cut_off_ends_and_says_where(folder: Any) -> None:
    with running(folder.config({})) as pipeline:
        path = truncate(pipeline, "recorder")
        assert pipeline.wait() == -signal.SIGBUS
        log = pipeline.log()
        assert "Fatal Python error: Bus error" in log
        assert "recorder.py" in log
        # The owner of this segment is unknown now: `pipeline shm gc` leaves it alone.
        path.unlink()
    with running(folder.config({}, name="next")) as following:
        assert not pipeline.run_dir.exists()
        assert following.stop() == 0
