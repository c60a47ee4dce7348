"""SIGTERM: requests under way are finished, new ones are refused; requests that take too long are named."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from pipeline.errors import Unavailable
from pipeline.testing import running
from tests.faults.load import until


def test_a_drain_finishes_what_is_under_way_and_refuses_what_is_new(folder: Any) -> None:
    with running(folder.config({"with.seconds": 0.5}, {})) as pipeline, pipeline.client() as client:
        draft = client.draft(data=(1,))
        under_way = [client.submit(data=b"%d" % number) for number in range(3)]
        until(lambda: client.status()["inside"] == 3)
        os.kill(pipeline.pid, signal.SIGTERM)
        until(lambda: client.status()["reasons"].get("") == "stopping")
        late = draft.submit()
        with pytest.raises(Unavailable, match="stopping"):
            late.get(200)
        for number, future in enumerate(under_way):
            with future.get(200) as result:
                assert result["data"].tobytes() == b"%d" % number
        assert pipeline.wait() == 0


def test_what_is_not_finished_in_time_is_named_and_its_clients_are_told(folder: Any) -> None:
    config = folder.config({"name": "slow", "with.seconds": 1.2}, {"name": "next"}, drain_s=0.5)
    with running(config) as pipeline, pipeline.client("patient") as client:
        future = client.submit(data=b"x")
        until(lambda: client.status()["inside"] == 1)
        os.kill(pipeline.pid, signal.SIGTERM)
        with pytest.raises(Unavailable):
            future.get(200)
        assert pipeline.wait() == 1
        assert f"not finished within 0.5 s: request {future.tag} of patient, which waited for slow, next" in pipeline.log()


def test_a_worker_killed_during_the_drain_costs_no_request(folder: Any) -> None:
    with running(folder.config({"with.seconds": 0.3}, drain_s=30)) as pipeline, pipeline.client() as client:
        futures = [client.submit(data=b"%d" % number) for number in range(3)]
        until(lambda: client.status()["inside"] == 3)
        (pid,) = pipeline.worker_pids("s0")
        os.kill(pipeline.pid, signal.SIGTERM)
        until(lambda: client.status()["reasons"].get("") == "stopping")
        os.kill(pid, signal.SIGKILL)
        for number, future in enumerate(futures):
            with future.get(200) as result:
                assert result["data"].tobytes() == b"%d" % number
        assert pipeline.wait() == 0
