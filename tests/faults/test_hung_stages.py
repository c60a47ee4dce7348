"""A stage that does not return: its worker is killed at the stage's time limit, in the middle of a C call too."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import StageCrashed
from pipeline.testing import running
from tests.faults.load import until


@pytest.mark.parametrize("deed", [b"sleep", b"hold"])
def test_a_request_that_hangs_fails_alone_and_its_batch_mates_are_answered(folder: Any, deed: bytes) -> None:
    stage = {"with.deadly": True, "batch": {"max_size": 4, "max_delay_ms": 100}, "timeout_ms": 250}
    with running(folder.config({}, stage)) as pipeline, pipeline.client() as client:
        data = [b"a", deed, b"b", b"c"]
        futures = [client.submit(data=each, flush=False) for each in data]
        client.flush()
        for each, future in zip(data, futures):
            assert future.wait(200)
            if each == deed:
                assert isinstance(future.error(), StageCrashed)
                assert "had been computing one batch for" in str(future.error())
            else:
                with future.get() as result:
                    assert result["data"].tobytes() == each
        until(lambda: "s1/0 has been computing one batch for" in pipeline.log())
        assert client.status()["reasons"] == {}
        assert pipeline.stop() == 0


def test_a_stage_without_a_limit_may_take_its_time(folder: Any) -> None:
    with running(folder.config({"with.seconds": 1.0}, {"timeout_ms": 250})) as pipeline, pipeline.client() as client:
        with client.submit(data=b"slow").get(200) as result:
            assert result["data"].tobytes() == b"slow"
        assert "worker_deaths" not in client.status()["counts"]
        assert pipeline.stop() == 0
