"""Clients of asyncio, over real pipelines."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import tracemalloc
import weakref
from typing import Any

import pytest
import uvloop

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.errors import ClientMisuse, DeadlineExceeded, Unavailable
from pipeline.testing import RunningPipeline, running
from pipeline.wire.messages import Submit
from tests.integration.loops import Run, bytes_of, quiet


def test_tasks_share_a_client_and_each_gets_its_own_answer(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)

            async def ask(number: int) -> None:
                result = await runner.infer(data=bytes_of(number))
                assert result["data"].tobytes() == bytes_of(number)

            threads = threading.active_count()
            await asyncio.gather(*[ask(number) for number in range(1024)])
            assert threading.active_count() == threads
            await quiet(client)
            assert client.outstanding == 0

    run(main())


def test_the_tasks_of_one_turn_share_messages(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            steps = []
            step = client._driver.step
            client._driver.step = lambda now: steps.append(now) or step(now)  # type: ignore[method-assign, func-returns-value]
            tasks = [asyncio.create_task(runner.infer(data=b"slow")) for _ in range(100)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert 0 < len(steps) < 10
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


def test_what_the_tasks_of_one_turn_give_back_shares_a_message(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            results = [await runner.infer(data=bytes_of(number) * 1000) for number in range(3)]
            connection = client._driver.there
            #: How many slots each message gives back, of those that give any.
            reports = []
            sent = connection.sent

            def note(message: Submit) -> None:
                if message.releases:
                    reports.append(len(message.releases))
                sent(message)

            connection.sent = note  # type: ignore[method-assign]
            request = asyncio.create_task(runner.infer(data=b"some"))
            await asyncio.sleep(0)
            # As if slots were short: then each slot that comes back is told of at once.
            connection.idle = True
            while results:
                with results.pop():
                    pass
            gone = len(connection._epoch.dropped)
            assert (reports, connection.dropped) == ([], True)
            await asyncio.sleep(0)
            # One message for all: that of the turn's end, or of the answer to the request, which may have come before it.
            assert gone in reports
            assert not connection.dropped
            with await request:
                pass
            with await runner.infer(data=bytes_of(1) * 1000):
                reports.clear()
            # Alone in its turn, at once.
            assert (reports, connection.dropped) == ([1], False)

    run(main())


def test_an_idle_client_is_never_woken(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            await AsyncInferRunner(client).infer(data=b"some")
            gc.collect()
            await asyncio.sleep(0.1)
            client._driver.step = None  # type: ignore[assignment, method-assign]
            await asyncio.sleep(0.3)
            assert client._driver.next_at is None
            assert client._alarm._timer is None
            del client._driver.step

    run(main())


def test_a_cancelled_task_cancels_its_request_and_its_slots_come_back(folder: Any, run: Run) -> None:
    with running(folder.config({"with": {"seconds": 0.3}}, {})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me") as client:
                runner = AsyncInferRunner(client)
                before = {stage["name"]: stage for stage in (await client.status())["stages"]}
                tasks = [asyncio.create_task(runner.infer(data=b"some")) for _ in range(20)]
                await asyncio.sleep(0.1)
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in done)
                status = await quiet(client)
                after = {stage["name"]: stage for stage in status["stages"]}
                assert before.keys() == after.keys()
                # What the first stage computes at that moment is finished; the second one computes none.
                assert after["s1"]["rows"] == before["s1"]["rows"]
                assert (await runner.infer(data=b"next"))["data"].tobytes() == b"next"

        run(main())


def test_a_task_that_is_cancelled_before_its_request_is_sent_sends_none(folder: Any, run: Run) -> None:
    with running(folder.config({"with": {"seconds": 0.2}}, queue={"max": 2})) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me") as client:
                runner = AsyncInferRunner(client)
                tasks = [asyncio.create_task(runner.infer(data=b"some")) for _ in range(300)]
                await asyncio.sleep(0.05)
                assert len(client._queue) > 0
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert len(client._queue) == 0
                await quiet(client)

        run(main())


def test_a_timeout_ends_the_request(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(runner.infer(data=b"slow"), 0.05)
            await quiet(client)
            if hasattr(asyncio, "timeout"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await runner.infer(data=b"slow")
                await quiet(client)
            with pytest.raises(DeadlineExceeded):
                await runner.infer(data=b"slow", deadline_ms=50)

    run(main())


# -- the end ----------------------------------------------------------------------------------------


def test_a_client_that_is_closed_fails_what_waits_and_says_so_afterwards(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        client = await AsyncClient.connect(echo.run_dir, name="me")
        runner = AsyncInferRunner(client)
        task = asyncio.create_task(runner.infer(data=b"slow"))
        futures = await runner.infer_many([{"data": b"slow"}])
        await asyncio.sleep(0.05)
        await client.close()
        for waiting in (task, *futures):
            with pytest.raises(Unavailable, match="closed before"):
                await waiting
        for call in (runner.infer(data=b"some"), client.status(), client.reconnect()):
            with pytest.raises(ClientMisuse, match="closed; connect again"):
                await call
        await client.close()

    run(main())


def test_a_client_that_is_dropped_is_closed_and_a_loop_that_goes_on_forgets_it(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        client = await AsyncClient.connect(echo.run_dir, name="me")
        await AsyncInferRunner(client).infer(data=b"some")
        gone = weakref.ref(client)
        gc.disable()
        try:
            del client
            assert gone() is None
        finally:
            gc.enable()
        async with await AsyncClient.connect(echo.run_dir, name="other") as other:
            while [each["name"] for each in (await other.status())["clients"]] != ["other"]:
                await asyncio.sleep(0.01)

    run(main())


def test_a_client_that_another_thread_drops_is_closed_in_its_loop(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        kept = [await AsyncClient.connect(echo.run_dir, name="me")]
        descriptor = kept[0]._driver.descriptor
        assert descriptor is not None
        await asyncio.to_thread(kept.clear)
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        # None is registered under that number any more.
        assert not loop.remove_reader(descriptor)

    run(main())


def test_a_loop_may_be_closed_before_its_client(echo: RunningPipeline, run: Run) -> None:
    async def main() -> AsyncClient:
        client = await AsyncClient.connect(echo.run_dir, name="me")
        await AsyncInferRunner(client).infer(data=b"some")
        return client

    client = run(main())
    with pytest.raises(ClientMisuse, match="belongs to the asyncio loop"):
        asyncio.run(AsyncInferRunner(client).infer(data=b"some"))
    del client


def test_a_loop_may_be_closed_with_requests_under_way(echo: RunningPipeline) -> None:
    async def main() -> None:
        runner = AsyncInferRunner(await AsyncClient.connect(echo.run_dir, name="me"))
        for _ in range(5):
            task = asyncio.create_task(runner.infer(data=b"slow"))
        await asyncio.sleep(0.05)
        assert not task.done()

    asyncio.run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_task_that_never_ended_may_be_dropped_after_its_loop(echo: RunningPipeline, new_loop: Any) -> None:
    async def main() -> None:
        runner = AsyncInferRunner(await AsyncClient.connect(echo.run_dir, name="me"))
        task = asyncio.create_task(runner.infer(data=b"slow"))
        await asyncio.sleep(0.05)
        # Of asyncio, for a program that ends its loop without its tasks.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task

    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()


def test_the_child_of_a_fork_is_told_to_connect_and_the_parent_goes_on(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            task = asyncio.create_task(runner.infer(data=b"slow"))
            await asyncio.sleep(0.05)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    refused = 0
                    for call in (runner.infer(data=b"some"), client.status(), runner.infer_many([{}])):
                        try:
                            call.send(None)
                        except ClientMisuse as error:
                            refused += "connect in the child" in str(error)
                    client.__del__()
                    code = 0 if refused == 3 else 2
                finally:
                    os._exit(code)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert (await task)["data"].tobytes() == b"slow"
            assert (await runner.infer(data=b"some"))["data"].tobytes() == b"some"

    run(main())


def test_results_outlive_the_client(echo: RunningPipeline, run: Run) -> None:
    async def main() -> Any:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            return await AsyncInferRunner(client).infer(data=b"x" * 5000)

    assert run(main())["data"].tobytes() == b"x" * 5000


def test_the_status_is_asked_by_any_number_of_tasks(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            documents = await asyncio.gather(*[client.status() for _ in range(20)])
            assert all(document["ready"] for document in documents)

    run(main())


def test_memory_stays_where_it_was_after_many_requests(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)

            async def round_of_them() -> None:
                await asyncio.gather(*[runner.infer(data=b"x" * 4096) for _ in range(100)])

            for _ in range(2):
                await round_of_them()
            tracemalloc.start()
            await round_of_them()
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(3):
                await round_of_them()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert after - before < 100_000

    run(main())


def test_nothing_is_polled_while_a_request_is_under_way(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            await AsyncInferRunner(client).infer(data=b"some")
            steps = []
            step = client._driver.step
            client._driver.step = lambda now: steps.append(now) or step(now)  # type: ignore[method-assign, func-returns-value]
            began = time.monotonic()
            await AsyncInferRunner(client).infer(data=b"slow")
            # For a second or more, in which the scheduler's lock is looked at every 50 ms.
            looks = (time.monotonic() - began) / 0.05
            assert 10 < len(steps) < 2 * looks + 10
            del client._driver.step

    run(main())
