"""Clients of asyncio whose scheduler, or whose whole pipeline, is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.client.reloading import reload
from pipeline.errors import Unavailable
from pipeline.testing import RunningPipeline, running
from tests.faults.load import until

ChildOf = Callable[[int, str], psutil.Process | None]


# Under uvloop in `make test-foreign`; `make test` has tests/integration/test_aio.py with both.
@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.foreign)])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    def run(main: Awaitable[Any]) -> Any:
        loop = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
        try:
            return loop.run_until_complete(main)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


def scheduler_of(pipeline: RunningPipeline, child_of: ChildOf) -> psutil.Process:
    scheduler = child_of(pipeline.pid, "scheduler")
    assert scheduler is not None
    return scheduler


def number_of(data: Any) -> int:
    return int.from_bytes(data.tobytes(), "little")


class Load:
    """Tasks that ask, one request after the other, and compare each answer."""

    def __init__(self, runner: AsyncInferRunner, retries: int) -> None:
        self.runner = runner
        self.retries = retries
        self.answered = self.lost = 0
        self._asked = 0
        self._stopped = False
        self.tasks = [asyncio.create_task(self._ask()) for _ in range(40)]

    async def _ask(self) -> None:
        while not self._stopped:
            number, self._asked = self._asked, self._asked + 1
            try:
                result = await self.runner.infer(data=number.to_bytes(8, "little"), retries=self.retries)
            except Unavailable:
                self.lost += 1
                continue
            assert number_of(result["data"]) == number
            self.answered += 1

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        enough = self.answered + count
        while self.answered < enough:
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def finish(self) -> None:
        self._stopped = True
        await asyncio.gather(*self.tasks)
        assert self.answered + self.lost == self._asked


@pytest.mark.parametrize("retries", [pytest.param(0, marks=pytest.mark.foreign), 5])
def test_the_scheduler_is_killed_under_load_and_the_next_requests_go_through(
    folder: Any, child_of: ChildOf, run: Any, retries: int
) -> None:
    with running(folder.config({"with.seconds": 0.003, "batch": {"max_size": 4}}, {})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me", patience_s=30) as client:
                load = Load(AsyncInferRunner(client), retries)
                for _ in range(2):
                    await load.more(100)
                    scheduler = scheduler_of(pipeline, child_of)
                    # With requests under way, whose answers it cannot send any more.
                    scheduler.suspend()
                    await asyncio.sleep(0.05)
                    while not client._queue.under_way:
                        scheduler.resume()
                        await load.more(1)
                        scheduler.suspend()
                        await asyncio.sleep(0.05)
                    scheduler.kill()
                    await asyncio.to_thread(scheduler.wait)
                    await load.more(100)
                await load.finish()
                assert bool(load.lost) == (retries == 0)
                assert client.outstanding == 0
                while True:
                    pools = (await client.status())["pools"]
                    if all(pool["free"] == pool["slots"] for pool in pools[1:]):
                        break
                    await asyncio.sleep(0.01)

        run(main())
        until(lambda: pipeline.log().count("started again with empty slots") == 2)


@pytest.mark.foreign
def test_an_idle_client_whose_scheduler_was_killed_does_not_notice(folder: Any, child_of: ChildOf, run: Any) -> None:
    with running(folder.config({})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me", patience_s=30) as client:
                runner = AsyncInferRunner(client)
                for number in range(3):
                    assert number_of((await runner.infer(data=bytes([number])))["data"]) == number
                    scheduler = scheduler_of(pipeline, child_of)
                    scheduler.kill()
                    await asyncio.to_thread(scheduler.wait)
                    # Until the next one serves, or not: both go through.
                    await asyncio.sleep(0.4 * number)

        run(main())


def test_a_pipeline_that_is_killed_as_a_whole_and_started_again_is_found_by_its_name(folder: Any, run: Any) -> None:
    config = folder.config({"with.seconds": 0.003}, name="again")

    def kill(pipeline: RunningPipeline) -> None:
        os.kill(pipeline.pid, signal.SIGKILL)
        assert pipeline.wait() == -signal.SIGKILL

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = running(config)
        pipeline = await loop.run_in_executor(None, first.__enter__)
        async with await AsyncClient.connect("again", name="me", patience_s=60) as client:
            load = Load(AsyncInferRunner(client), 9)
            await load.more(100)
            await loop.run_in_executor(None, kill, pipeline)
            await loop.run_in_executor(None, first.__exit__, None, None, None)
            second = running(config)
            await loop.run_in_executor(None, second.__enter__)
            try:
                await load.more(100)
                await load.finish()
                assert load.lost == 0
            finally:
                await client.close()
                await loop.run_in_executor(None, second.__exit__, None, None, None)

    run(main())


@pytest.mark.foreign
def test_a_new_version_takes_over_under_load_and_no_request_is_lost(folder: Any, run: Any) -> None:
    with running(folder.config({"with.seconds": 0.003})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me", patience_s=30) as client:
                load = Load(AsyncInferRunner(client), 0)
                await load.more(100)
                before = client._driver.there.run_dir
                await asyncio.to_thread(reload, pipeline.run_dir)
                await load.more(100)
                await load.finish()
                assert load.lost == 0
                assert client._driver.there.run_dir != before

        run(main())


def test_without_a_pipeline_a_request_fails_when_patience_is_over(folder: Any, run: Any, tmp_path: Path) -> None:
    with running(folder.config({}, name="gone")) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect("gone", name="me", patience_s=0.3) as client:
                runner = AsyncInferRunner(client)
                await runner.infer(data=b"some")
                await asyncio.to_thread(pipeline.stop)
                with pytest.raises(Unavailable, match="no pipeline 'gone' is running here"):
                    await runner.infer(data=b"some")
                assert client._driver.next_at is None
            async with AsyncClient(pipeline.run_dir, "me") as client:
                with pytest.raises(Unavailable):
                    await client.ready()

        run(main())


def test_a_cancelled_task_whose_scheduler_is_dead_is_cancelled_all_the_same(
    folder: Any, child_of: ChildOf, run: Any
) -> None:
    with running(folder.config({"with.seconds": 0.5})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me", patience_s=30) as client:
                runner = AsyncInferRunner(client)
                tasks = [asyncio.create_task(runner.infer(data=b"some", retries=3)) for _ in range(10)]
                await asyncio.sleep(0.1)
                scheduler_of(pipeline, child_of).kill()
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in done)
                await runner.infer(data=b"next")
                assert client.outstanding == 0

        run(main())
