"""What the runners of asyncio can do, over real pipelines."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.errors import BadInput, ClientMisuse, InvalidRequest, Overloaded
from pipeline.testing import RunningPipeline, running
from tests.integration.loops import Run, bytes_of, quiet


def test_many_requests_are_sent_in_one_call_and_answered_in_order_or_as_they_come(
    echo: RunningPipeline, run: Run
) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me", pending=50) as client:
            runner = AsyncInferRunner(client)
            futures = await runner.infer_many([{"data": bytes_of(number)} for number in range(500)])
            for number, future in enumerate(futures):
                assert (await future)["data"].tobytes() == bytes_of(number)
            del future, futures
            futures = await runner.infer_many([{"data": bytes_of(number)} for number in range(100)])
            came = {int((await future)["data"].tobytes()) for future in asyncio.as_completed(futures)}
            assert came == set(range(100))

    run(main())


def test_the_arrays_of_many_requests_may_be_changed_when_the_call_returns(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me", pending=50) as client:
            runner = AsyncInferRunner(client)
            array = np.zeros((500, 8), np.uint8)
            array[:] = np.arange(500)[:, None] % 250
            futures = await runner.infer_many([{"data": row} for row in array])
            array[:] = 255
            assert 0 < client.copied["waiting inputs"] <= 50 * 8
            for number, future in enumerate(futures):
                assert (await future)["data"].tolist() == [number % 250] * 8

    run(main())


def test_a_batch_is_answered_as_one(folder: Any, run: Run) -> None:
    stage = {"use": "./sample_stages.py:Count", "with": {"seconds": 0.0}}
    with running(folder.config(stage)) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me") as client:
                runner = AsyncInferRunner(client)
                counts = (await runner.infer(data=np.zeros((300, 7), np.uint8)))["count"]
                assert counts.tolist() == [[7]] * 300
                assert client.copied["batches"] == 300 * 8
                await quiet(client)

        run(main())


def test_the_first_row_that_has_failed_is_the_failure_of_its_batch(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            rows = np.frombuffer(b"good..poisongood..poison", np.uint8).reshape(4, 6)
            with pytest.raises(BadInput, match="row 1 of 4: refused on purpose"):
                await AsyncInferRunner(client).infer(data=rows)
            await quiet(client)

    run(main())


def test_a_future_that_is_cancelled_cancels_its_request(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            futures = await AsyncInferRunner(client).infer_many([{"data": b"slow"}] * 5)
            for future in futures:
                future.cancel()
            await quiet(client)

    run(main())


def test_a_request_that_does_not_fit_is_refused_and_nothing_is_sent(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            with pytest.raises(InvalidRequest, match="data"):
                await runner.infer(date=b"some")
            with pytest.raises(InvalidRequest, match="uint8"):
                await runner.infer(data=np.zeros(4))
            with pytest.raises(InvalidRequest, match="request 1: expected a mapping"):
                await runner.infer_many([{"data": b"some"}, b"some"])  # type: ignore[list-item]
            with pytest.raises(InvalidRequest, match="priority"):
                await runner.infer(data=b"some", priority=11)
            assert client.outstanding == 0

    run(main())


def test_without_waiting_a_client_takes_no_more_than_may_wait(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me", pending=3) as client:
            runner = AsyncInferRunner(client)
            tasks = [asyncio.create_task(runner.infer(data=b"slow", block=False)) for _ in range(500)]
            done, others = await asyncio.wait(tasks, timeout=0.2)
            assert done
            assert all(isinstance(task.exception(), Overloaded) for task in done)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    run(main())


def test_the_bindings_are_those_of_the_model(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir) as client:
            runner = AsyncInferRunner(client)
            assert runner.input_bindings() == {"data": ("bytes",)}
            assert runner.output_bindings() == {"data": ("bytes",)}
            assert runner.input_specs()["data"].dtype == "uint8"
            assert runner.output_specs()["data"].max == {"bytes": 65536}

    run(main())


# -- answers in parts -------------------------------------------------------------------------------


def test_the_parts_of_an_answer_are_iterated_as_they_come(folder: Any, run: Run) -> None:
    pieces = {"use": "stages.pieces:Pieces", "with": {"size": 2, "max_bytes": 65536}}
    with running(folder.config(pieces)) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me") as client:
                runner = AsyncInferRunner(client)
                assert [bytes(part["piece"]) async for part in runner.stream(data=b"abcde")] == [b"ab", b"cd", b"e"]
                assert [part async for part in runner.stream(data=b"")] == []
                with pytest.raises(ClientMisuse, match=r"has come in 3 parts.*runner\.stream"):
                    await runner.infer(data=b"abcde")
                await quiet(client)
                # Left early, closed by name, by a block, or dropped before the first step: the slots come back.
                async for part in runner.stream(data=b"abcde" * 100):
                    assert bytes(part["piece"]) == b"ab"
                    break
                del part
                async with runner.stream(data=b"abcde" * 100) as parts:
                    await parts.__anext__()
                await parts.aclose()
                with pytest.raises(StopAsyncIteration):
                    await parts.__anext__()
                runner.stream(data=b"abcde")
                del parts
                await quiet(client)

        run(main())


def test_a_part_is_there_before_the_next_one_is_computed(folder: Any, run: Run) -> None:
    pieces = {"use": "stages.pieces:Pieces", "with": {"size": 2, "max_bytes": 65536, "pause_ms": 200}}
    with running(folder.config(pieces)) as pipeline:

        async def main() -> None:
            async with await AsyncClient.connect(pipeline.run_dir, name="me") as client:
                left = []
                async for _ in AsyncInferRunner(client).stream(data=b"abcdefghij"):
                    left.append(client.outstanding)
                assert left[:3] == [1, 1, 1]

        run(main())


def test_two_tasks_do_not_iterate_over_one_answer(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            parts = AsyncInferRunner(client).stream(data=b"slow")
            first = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            with pytest.raises(ClientMisuse, match="let one task iterate"):
                await anext(parts)
            assert bytes((await first)["data"]) == b"slow"
            with pytest.raises(StopAsyncIteration):
                await anext(parts)

    run(main())


def test_an_answer_that_comes_whole_is_its_only_part(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            assert [bytes(part["data"]) async for part in runner.stream(data=b"whole")] == [b"whole"]
            with pytest.raises(BadInput, match="refused on purpose"):
                await runner.stream(data=b"poison").__anext__()
            with pytest.raises(InvalidRequest):
                await runner.stream(date=b"some").__anext__()
            assert client.outstanding == 0

    run(main())


# -- loans ------------------------------------------------------------------------------------------


def test_a_loan_is_written_in_place_and_sent_once(echo: RunningPipeline, run: Run) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            loan = runner.loan(data=(4,))
            with pytest.raises(ClientMisuse, match="not lent now"):
                loan["data"]
            async with loan as request:
                assert list(request) == ["data"]
                array = request["data"]
                array[...] = 7
                assert (await request.infer())["data"].tolist() == [7, 7, 7, 7]
                with pytest.raises(ClientMisuse, match="not lent now"):
                    await request.infer()
                with pytest.raises(ClientMisuse, match="not lent now"):
                    request["other"]
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 8
            assert client.copied == {"small outputs": 4}
            with pytest.raises(ClientMisuse, match="for one request"):
                await loan.__aenter__()
            with pytest.raises(InvalidRequest):
                await runner.loan(data=(4, 4)).__aenter__()
            await quiet(client)

    run(main())


def test_a_loan_that_is_not_sent_goes_back_and_so_does_one_that_a_cancelled_task_waits_for(
    echo: RunningPipeline, run: Run
) -> None:
    async def main() -> None:
        async with await AsyncClient.connect(echo.run_dir, name="me") as client:
            runner = AsyncInferRunner(client)
            async with runner.loan(data=(4,)) as request:
                array = request["data"]
                with pytest.raises(KeyError, match="input 'other': expected one of data"):
                    request["other"]
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 8
            await quiet(client)
            loans = [runner.loan(data=(4,)) for _ in range(300)]
            waiting = [asyncio.create_task(loan.__aenter__()) for loan in loans]
            done, others = await asyncio.wait(waiting, timeout=0.3)
            assert done
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for loan in loans:
                await loan.__aexit__()
            await quiet(client)

    run(main())
