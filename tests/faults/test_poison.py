"""A request that kills every worker: it alone fails, after few deaths, and its batch mates are answered."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.errors import StageCrashed
from pipeline.testing import running


@pytest.mark.parametrize(
    ("deed", "size", "how"),
    [
        pytest.param(b"exit", 1, "exit code 9", marks=pytest.mark.foreign),
        pytest.param(b"abort", 4, "SIGABRT", marks=pytest.mark.foreign),
        (b"segfault", 8, "SIGSEGV"),
        # After `process` has returned.
        (b"close", 4, "SIGABRT"),
        (b"kill", 8, "SIGKILL"),
    ],
)
def test_a_deadly_request_fails_alone_after_few_deaths(folder: Any, deed: bytes, size: int, how: str) -> None:
    config = folder.config({"with.deadly": True, "batch": {"max_size": size, "max_delay_ms": 100}}, {})
    with running(config) as pipeline, pipeline.client() as client:
        data = [b"innocent %d" % number for number in range(size)]
        data[size // 2] = deed
        futures = [client.submit(data=each, flush=False) for each in data]
        client.flush()
        for each, future in zip(data, futures):
            assert future.wait(200)
            if each == deed:
                error = future.error()
                assert isinstance(error, StageCrashed)
                assert "stage s0" in str(error)
                assert how in str(error)
                # The lines printed last, and the line of Python that led there; a SIGKILL and an exit leave none.
                assert ("about to read address 0" in str(error)) == (deed == b"segfault")
                assert ("deadly_stages.py" in str(error)) == (deed in (b"segfault", b"abort"))
            else:
                with future.get() as result:
                    assert result["data"].tobytes() == each
        deaths = client.status()["counts"]["worker_deaths"]
        # The first death, then those of the search; the cause of a SIGKILL is uncertain, so it takes one more.
        assert deaths <= 1 + math.ceil(math.log2(size)) + 1 + (deed == b"kill")
        # No worker dies again in that run.
        for first in range(0, 20, size):
            later = [b"later %d" % number for number in range(first, first + size)]  # a full batch, which waits for nothing
            for each, future in zip(later, [client.submit(data=each) for each in later]):
                with future.get(200) as result:
                    assert result["data"].tobytes() == each
        assert client.status()["counts"]["worker_deaths"] == deaths
        assert pipeline.stop() == 0


@pytest.mark.foreign
def test_deadly_requests_one_after_the_other_do_not_break_a_stage_that_works(folder: Any) -> None:
    config = folder.config({"with.deadly": True, "restart": {"max": 2}})
    with running(config) as pipeline, pipeline.client() as client:
        for number in range(4):
            deadly = client.submit(data=b"exit")
            assert deadly.wait(200)
            assert isinstance(deadly.error(), StageCrashed)
            with client.submit(data=b"%d" % number).get(200) as result:
                assert result["data"].tobytes() == b"%d" % number
        assert client.status()["reasons"] == {}
        assert pipeline.stop() == 0
