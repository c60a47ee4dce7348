"""A request whose own data is at fault fails with the stage's message; its batch mates are answered."""

from __future__ import annotations

from typing import Any

from pipeline.errors import RequestRefused
from pipeline.testing import running


def test_a_bad_input_in_a_batch_fails_alone_and_no_worker_dies(folder: Any) -> None:
    config = folder.config({}, {"with.deadly": True, "batch": {"max_size": 4, "max_delay_ms": 100}}, {})
    with running(config) as pipeline, pipeline.client() as client:
        data = [b"a", b"bad", b"b", b"c"]
        futures = [client.submit(data=each, flush=False) for each in data]
        client.flush()
        for each, future in zip(data, futures):
            assert future.wait(200)
            if each == b"bad":
                assert isinstance(future.error(), RequestRefused)
                assert "refused on purpose" in str(future.error())
            else:
                with future.get() as result:
                    assert result["data"].tobytes() == each
                    assert result.stages["s1"]["batch"] == 4
        assert "worker_deaths" not in client.status()["counts"]
        assert pipeline.stop() == 0
