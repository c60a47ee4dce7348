"""The exporter of traces is killed, and the collector is away, slow or broken: no request notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from pipeline.testing import RunningPipeline, running
from tests.faults.load import Load, until
from tests.integration.collectors import Collector

ChildOf = Callable[[int, str], psutil.Process | None]


def counted(pipeline: RunningPipeline, outcome: str) -> int:
    return int(pipeline.status()["counts"].get(f"spans_{outcome}", -1))


def test_a_killed_tracer_is_started_again_and_no_request_is_lost(folder: Any, child_of: ChildOf) -> None:
    with Collector() as collector:
        config = folder.config({"with.seconds": 0.002}, name="sample", tracing={"endpoint": collector.url, "sample": 1.0})
        with running(config) as pipeline, pipeline.client() as client:
            until(lambda: counted(pipeline, "exported") >= 0)
            load = Load(client)
            load.more(50)
            until(lambda: collector.named("sample"))
            victim = child_of(pipeline.pid, "tracer")
            assert victim is not None
            os.kill(victim.pid, signal.SIGKILL)
            load.more(50)
            load.until(lambda: (now := child_of(pipeline.pid, "tracer")) is not None and now.pid != victim.pid)
            before = len(collector.named("sample"))
            load.until(lambda: len(collector.named("sample")) > before)
            load.finish()
            assert client.status()["counts"]["answered"] == load.sent
            assert pipeline.stop() == 0


@pytest.mark.foreign
def test_a_collector_that_is_away_and_then_slow_holds_up_no_request_and_is_found_again(folder: Any) -> None:
    with Collector() as gone:
        port = gone.port
    tracing = {"endpoint": f"http://127.0.0.1:{port}", "sample": 1.0, "queue": 512}
    # One export may take so long.
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1"
    try:
        with running(folder.config({}, name="sample", tracing=tracing)) as pipeline, pipeline.client() as client:
            until(lambda: counted(pipeline, "exported") >= 0)
            load = Load(client)
            load.more(400)
            # 512 spans wait for the collector, and those of an export that has failed are lost.
            load.until(lambda: counted(pipeline, "dropped") > 0 and counted(pipeline, "failed") > 0)
            with Collector(port, delay_s=0.3) as collector:
                load.until(lambda: collector.named("sample"))
                load.until(lambda: counted(pipeline, "exported") > 0)
                load.finish()
                assert client.status()["counts"]["answered"] == load.sent
                assert pipeline.stop() == 0
            log = pipeline.log()
    finally:
        del os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"]
    assert log.count("the collector does not take spans") == 1
    assert "the collector takes spans again" in log
    assert log.count("spans are dropped") == 1
