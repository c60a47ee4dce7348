"""A batch that is over is freed at once: a worker collects garbage seldom, and stands still meanwhile."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

from pipeline.worker.replica import LATE_NS
from tests.unit.pipeline.worker.test_execution import Bench, Stage, fill, refuse_negative
from tests.unit.pipeline.worker.test_replica import Process

now = time.monotonic_ns

pytestmark = pytest.mark.usefixtures("collector_is_off")


def test_no_batch_waits_for_the_collector() -> None:
    bench = Bench()
    # First once more: what is loaded by the first batch that fails leaves garbage of its own.
    for process in (fill, refuse_negative, fill, refuse_negative):
        if process is fill:
            gc.collect()
        bench.run(Stage(process), *(bench.order(number, bench.handle(number - 1, 0, 0, 0)) for number in range(2)))
    assert gc.collect() == 0
    bench.table.close()
    for segment in bench.segments:
        segment.unlink()


def test_nothing_that_passes_the_workers_of_a_process_waits_for_the_collector(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.a.add([process.order(number, 4, 5) for number in range(4)])
    while any(replica.step(now() + LATE_NS) for replica in process.replicas):
        pass
    assert [record.done for record in process.records] == [2, 2]
    assert gc.collect() == 0
    process.close()
