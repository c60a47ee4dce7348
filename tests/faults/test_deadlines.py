"""A request whose deadline passes is answered at once, even if its worker is busy; no later stage computes it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.client.future import Future
from pipeline.errors import DeadlineExceeded
from pipeline.testing import running
from tests.faults.load import until


def computed(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines() if journal.exists() else []


def test_a_request_expires_while_its_worker_is_busy_and_later_stages_never_see_it(folder: Any, tmp_path: Path) -> None:
    later = tmp_path / "later"
    config = folder.config({"with.seconds": 1.0}, {"with.journal": str(later)}, {})
    with running(config) as pipeline, pipeline.client() as client:
        # At its deadline, one request is being computed and one waits in the worker.
        hurried = [client.submit(data=data, deadline_ms=200) for data in (b"computed", b"queued")]
        patient = client.submit(data=b"patient")
        for future in hurried:
            assert future.wait(200)
            assert isinstance(future.error(), DeadlineExceeded)
            assert "waiting for s0, s1, s2" in str(future.error())
            # Both are answered while the worker still sleeps: the first batch ends after 1000 ms.
            assert not patient.done()
        print(f"answered {(hurried[1].answered_ns - hurried[1].submitted_ns) / 1e6:.0f} ms after submission, due at 200")
        with patient.get(200) as result:
            assert result["data"].tobytes() == b"patient"
        assert computed(later) == [b"patient"]
        until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        assert pipeline.stop() == 0


def test_the_pipelines_deadline_holds_unless_a_request_brings_its_own(folder: Any) -> None:
    config = folder.config({"with.seconds": 0.6}, deadline_ms=200)
    with running(config) as pipeline, pipeline.client() as client:
        default = client.submit(data=b"default")
        with pytest.raises(DeadlineExceeded):
            default.get(200)
        with client.submit(data=b"own", deadline_ms=30_000).get(200) as result:
            assert result["data"].tobytes() == b"own"
        assert pipeline.stop() == 0


def test_a_request_that_expires_in_the_scheduler_is_not_computed_at_all(folder: Any, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    config = folder.config({"with.seconds": 0.5, "with.journal": str(journal), "credits": 1})
    with running(config) as pipeline, pipeline.client() as client:
        futures: list[Future] = [client.submit(data=b"first")]
        until(lambda: computed(journal))
        futures += [client.submit(data=b"late %d" % number, deadline_ms=50) for number in range(3)]
        began = time.monotonic()
        for future in futures[1:]:
            with pytest.raises(DeadlineExceeded):
                future.get(200)
        print(f"all expired after {(time.monotonic() - began) * 1000:.0f} ms")
        with futures[0].get(200), client.submit(data=b"last").get(200):
            pass
        assert computed(journal) == [b"first", b"last"]
        assert pipeline.stop() == 0
