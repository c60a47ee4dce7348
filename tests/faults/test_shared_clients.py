"""Clients that threads share, whose scheduler, or whose whole pipeline, is killed and comes back; or which are killed."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import pytest

from pipeline.client.infer_future import InferFuture
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import PipelineError, Unavailable
from pipeline.testing import RunningPipeline, running
from shm import leftovers
from tests.faults.load import until

ChildOf = Callable[[int, str], psutil.Process | None]


def scheduler_of(pipeline: RunningPipeline, child_of: ChildOf) -> psutil.Process:
    scheduler = child_of(pipeline.pid, "scheduler")
    assert scheduler is not None
    return scheduler


class Load:
    """Threads that share a runner, ask ahead, and compare each answer."""

    def __init__(self, runner: InferRunner, retries: int, threads: int = 8, ahead: int = 5) -> None:
        self.runner = runner
        self.retries = retries
        self.ahead = ahead
        self.answered: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self._stopped = False
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._threads = [self._pool.submit(self._ask, thread) for thread in range(threads)]

    def _ask(self, thread: int) -> None:
        number = thread << 32
        while not self._stopped:
            futures = []
            for _ in range(self.ahead):
                futures.append((number, self._send(number)))
                number += 1
            for asked, future in futures:
                try:
                    assert int.from_bytes(future.get(200)["data"].tobytes(), "little") == asked
                    self.answered[asked] += 1
                except Unavailable:
                    self.lost[asked] += 1

    def _send(self, number: int) -> InferFuture:
        return self.runner.infer(data=number.to_bytes(8, "little"), retries=self.retries)

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        enough = len(self.answered) + count
        while len(self.answered) < enough:
            for thread in self._threads:
                if thread.done():
                    thread.result()
            time.sleep(0.01)

    def finish(self) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.result(200)
        self._pool.shutdown()
        # Each was answered, or has failed, once.
        assert {*self.answered.values(), *self.lost.values()} <= {1}
        assert not self.answered & self.lost


@pytest.mark.parametrize("retries", [pytest.param(0, marks=pytest.mark.foreign), 3])
def test_the_scheduler_is_killed_under_threads_and_the_next_requests_go_through(
    folder: Any, child_of: ChildOf, retries: int
) -> None:
    with running(folder.config({"with.seconds": 0.003, "batch": {"max_size": 4}}, {})) as pipeline:
        with SharedClient.connect(pipeline.run_dir, patience_s=30) as client:
            load = Load(InferRunner(client), retries)
            for _ in range(2):
                load.more(100)
                scheduler = scheduler_of(pipeline, child_of)
                # With requests under way, whose answers it cannot send any more.
                scheduler.suspend()
                time.sleep(0.05)
                while not client.io.queue.under_way:
                    scheduler.resume()
                    load.more(1)
                    scheduler.suspend()
                    time.sleep(0.05)
                scheduler.kill()
                scheduler.wait()
                load.more(100)
            load.finish()
            assert bool(load.lost) == (retries == 0)
            assert client.outstanding == 0
            until(lambda: all(pool["free"] == pool["slots"] for pool in client.status()["pools"][1:]))
        until(lambda: pipeline.log().count("started again with empty slots") == 2)
        assert pipeline.stop() == 0


def test_what_is_under_way_fails_at_once_and_what_waits_goes_to_the_next_scheduler(
    folder: Any, child_of: ChildOf
) -> None:
    with running(folder.config({"with.seconds": 0.2})) as pipeline:
        with SharedClient.connect(pipeline.run_dir, patience_s=30) as client:
            runner = InferRunner(client)
            futures = [runner.infer(data=number.to_bytes(8, "little")) for number in range(40)]
            until(lambda: futures[1].done())
            scheduler = scheduler_of(pipeline, child_of)
            scheduler.suspend()
            # What it has said before is taken in: otherwise one that waits is sent before it is killed.
            time.sleep(0.2)
            sent = [future for future in futures if future.request and not future.done()]
            waiting = [future for future in futures if not future.request]
            assert sent
            assert waiting
            scheduler.kill()
            for future in sent:
                with suppress(Unavailable):
                    future.get(200)
            for number, future in enumerate(futures):
                if future in waiting:
                    assert int.from_bytes(future.get(200)["data"].tobytes(), "little") == number
            assert any(isinstance(future.exception(), Unavailable) for future in sent)
        assert pipeline.stop() == 0


@pytest.mark.foreign
def test_an_idle_client_whose_scheduler_was_killed_does_not_notice(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({})) as pipeline, SharedClient.connect(pipeline.run_dir, patience_s=30) as client:
        runner = InferRunner(client)
        for number in range(4):
            assert runner.infer(data=bytes([number])).get(200)["data"].tobytes() == bytes([number])
            scheduler = scheduler_of(pipeline, child_of)
            scheduler.kill()
            scheduler.wait()
            # Until the next one serves, or not, and until the I/O thread sleeps for good: all go through.
            time.sleep(0.5 * number)
        assert pipeline.stop() == 0


@pytest.mark.foreign
def test_a_slot_that_was_lent_goes_with_its_scheduler(folder: Any, child_of: ChildOf) -> None:
    with running(folder.config({})) as pipeline, SharedClient.connect(pipeline.run_dir, patience_s=30) as client:
        runner = InferRunner(client)
        for retries in (0, 1):
            with runner.loan(data=(4,)) as request:
                request["data"][...] = 7
                scheduler = scheduler_of(pipeline, child_of)
                scheduler.kill()
                scheduler.wait()
                if retries:
                    assert request.infer(retries=1).get(200)["data"].tobytes() == bytes([7] * 4)
                else:
                    with pytest.raises(Unavailable, match="take another loan"):
                        request.infer()
        assert pipeline.stop() == 0


def test_a_pipeline_that_is_killed_as_a_whole_and_started_again_is_found_by_its_name(folder: Any) -> None:
    config = folder.config({"with.seconds": 0.003}, name="again")
    first = running(config)
    pipeline = first.__enter__()
    with SharedClient.connect("again", patience_s=60) as client:
        load = Load(InferRunner(client), 9)
        load.more(100)
        os.kill(pipeline.pid, signal.SIGKILL)
        assert pipeline.wait() == -signal.SIGKILL
        first.__exit__(None, None, None)
        with running(config):
            load.more(100)
            load.finish()
            assert load.lost == {}
            client.close()


def test_without_a_pipeline_a_request_fails_when_patience_is_over(folder: Any) -> None:
    config = folder.config({}, name="gone")
    with running(config) as pipeline, SharedClient.connect("gone", patience_s=0.3) as client:
        runner = InferRunner(client)
        runner.infer(data=b"some").get(200)
        pipeline.stop()
        begun = time.monotonic()
        futures = [runner.infer(data=b"some") for _ in range(5)]
        for future in futures:
            with pytest.raises(Unavailable, match="no pipeline 'gone' is running here"):
                future.get(200)
        assert time.monotonic() - begun >= 0.3
        with pytest.raises(Unavailable), runner.loan(data=(1,)):
            pass
    with pytest.raises(Unavailable):
        SharedClient.connect("gone")
    gc.collect()


def test_a_program_with_threads_that_is_killed_leaves_nothing_behind(folder: Any) -> None:
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from pipeline.client.shared import SharedClient\n"
        "from pipeline.client.runner import InferRunner\n"
        "runner = InferRunner(SharedClient.connect(Path(sys.argv[1])))\n"
        "def work():\n"
        "    while True:\n"
        "        kept = [future.get() for future in runner.infer_many([{'data': b'x' * 1000}] * 20)]\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "print('works', flush=True)\n"
    )
    with running(folder.config({"with.seconds": 0.001})) as pipeline, pipeline.client("observer") as observer:
        for _ in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", program, pipeline.run_dir], stdout=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "works\n"
                time.sleep(0.2)
                child.kill()
        until(lambda: [each["name"] for each in observer.status()["clients"]] == ["observer"])
        until(lambda: all(pool["free"] >= pool["slots"] - 1 for pool in observer.status()["pools"]))
        assert pipeline.stop() == 0


def test_threads_that_wait_hear_of_the_end_of_a_pipeline_that_is_meant_by_its_path(folder: Any) -> None:
    config = folder.config({"with.seconds": 0.05})
    with running(config) as pipeline, SharedClient.connect(pipeline.run_dir, pending=2) as client:
        runner = InferRunner(client)
        ended: list[PipelineError] = []

        def work() -> None:
            try:
                while True:
                    runner.infer(data=b"some").get()
            except PipelineError as error:
                ended.append(error)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        os.kill(pipeline.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(200)
        assert [type(error) for error in ended] == [Unavailable] * 12
        leftovers.collect()
        shutil.rmtree(pipeline.run_dir)
