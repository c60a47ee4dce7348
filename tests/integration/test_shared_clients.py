"""Clients that threads share, over real pipelines: their limits, their futures, and what no caller runs into."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.client.copies import KEPT, RETRIES, UNREAD, WAITING
from pipeline.client.infer_future import InferFuture
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import (
    BadInput,
    Cancelled,
    ClientMisuse,
    DeadlineExceeded,
    NotInTime,
    Overloaded,
)
from pipeline.testing import RunningPipeline, running
from tests.integration.sharing import LARGE, data_of, in_threads, quiet

ROOT = Path(__file__).parents[2]

# -- threads ----------------------------------------------------------------------------------------


def test_threads_share_a_runner_and_each_gets_its_own_answers(runner: InferRunner, client: SharedClient) -> None:
    def work(thread: int) -> None:
        for turn in range(60):
            data = data_of(thread * 1000 + turn, 16 if turn % 3 else LARGE)
            with runner.infer(data=data).get(200) as result:
                assert result["data"].tobytes() == data

    in_threads(8, work)
    quiet(client)


def test_threads_that_send_ahead_get_their_own_answers(runner: InferRunner, client: SharedClient) -> None:
    def work(thread: int) -> None:
        numbers = [thread * 1000 + turn for turn in range(100)]
        futures = [runner.infer(data=data_of(number, LARGE)) for number in numbers]
        for number, future in zip(numbers, futures):
            assert future.get(200)["data"].tobytes() == data_of(number, LARGE)

    in_threads(4, work)
    quiet(client)


def test_when_infer_returns_the_arrays_may_be_overwritten(runner: InferRunner) -> None:
    array = np.empty(LARGE, np.uint8)
    futures = []
    for number in range(60):
        array[:] = np.frombuffer(data_of(number, LARGE), np.uint8)
        futures.append(runner.infer(data=array))
    array[:] = 255
    for number, future in enumerate(futures):
        assert future.get(200)["data"].tobytes() == data_of(number, LARGE)


def test_bytes_cannot_change_and_are_not_copied_while_they_wait(runner: InferRunner) -> None:
    for future in [runner.infer(data=data_of(number, LARGE), retries=2) for number in range(60)]:
        future.get(200)
    assert WAITING not in runner.copied
    assert RETRIES not in runner.copied


def test_what_the_caller_may_change_is_copied_and_counted(runner: InferRunner) -> None:
    runner.infer(data=b"for a slot in hand").get(200)
    arrays = [np.frombuffer(bytearray(data_of(number, LARGE)), np.uint8) for number in range(60)]
    for future in runner.infer_many([{"data": array} for array in arrays]):
        future.get(200)
    waited = runner.copied[WAITING]
    assert 0 < waited < 60 * LARGE
    assert waited % LARGE == 0
    runner.infer(data=arrays[0], retries=1).get(200)
    assert runner.copied[RETRIES] == LARGE


# -- no caller waits for itself ---------------------------------------------------------------------


def test_any_number_is_sent_before_the_first_answer_is_read_and_is_kept(runner: InferRunner) -> None:
    futures = [runner.infer(data=data_of(number, LARGE)) for number in range(300)]
    # Before one is read: a caller that is as fast as the pipeline leaves nothing unread.
    assert not concurrent.futures.wait(futures, 60).not_done
    results = [future.get(200) for future in futures]
    for number, (future, result) in enumerate(zip(futures, results)):
        assert result["data"].tobytes() == data_of(number, LARGE)
        assert future.get() is result
    copied = runner.copied
    assert copied[UNREAD] > 0
    # Every answer that is no view was copied once, for one of the two reasons.
    assert (copied[UNREAD] + copied.get(KEPT, 0)) % LARGE == 0
    assert copied[UNREAD] + copied.get(KEPT, 0) == sum(result.copied_bytes for result in results)
    views = [result for result in results if not result.copied_bytes]
    assert len(views) <= 3


def test_the_blocking_client_reads_64_in_order_with_the_shipped_config() -> None:
    picture = (ROOT / "photos/digits/7.png").read_bytes()
    with running(ROOT / "configs/digits.yaml") as pipeline, pipeline.client() as client:
        futures = [client.submit(image=picture) for _ in range(64)]
        for future in futures:
            with future.get(200) as result:
                assert result["labels"][0] == "7"
        assert pipeline.stop() == 0


def test_the_blocking_client_submits_more_files_than_there_are_slots_and_keeps_all(folder: Any) -> None:
    with running(folder.config({}, {})) as pipeline, pipeline.client() as client:
        futures = {number: client.submit(data=data_of(number, LARGE)) for number in range(200)}
        kept = {number: future.get(200) for number, future in futures.items()}
        for number, result in kept.items():
            assert result["data"].tobytes() == data_of(number, LARGE)
        # Which of the two it is depends on who is faster.
        assert client.copied.get(UNREAD, 0) + client.copied.get(KEPT, 0) >= 150 * LARGE
        assert pipeline.stop() == 0


# -- limits -----------------------------------------------------------------------------------------


def test_beyond_pending_infer_waits_or_refuses_by_option(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, pending=5) as client:
        runner = InferRunner(client)
        futures: list[Any] = []

        def send(first: int) -> None:
            for number in range(first, first + 200):
                futures.append((number, runner.infer(data=data_of(number), block=False)))

        with pytest.raises(Overloaded, match=r"5 requests of this client wait for a slot, and 5 may \(`pending`\)"):
            send(0)
        assert client.outstanding < 100
        # All or none of many.
        before = client.outstanding
        with pytest.raises(Overloaded):
            runner.infer_many([{"data": b"x"}] * 200, block=False)
        assert client.outstanding <= before
        for number in range(1000, 1060):
            futures.append((number, runner.infer(data=data_of(number))))
            assert len(client.io.queue) <= 5
        for number, future in futures:
            assert future.get(200)["data"].tobytes() == data_of(number)


def test_many_more_than_may_wait_are_sent_one_after_the_other(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, pending=3) as client:
        futures = InferRunner(client).infer_many([{"data": data_of(number)} for number in range(60)])
        assert [int.from_bytes(future.get(200)["data"].tobytes()[:8], "little") for future in futures] == [*range(60)]


def test_threads_that_wait_for_room_all_go_on(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, pending=1) as client:
        runner = InferRunner(client)

        def work(thread: int) -> None:
            for future in [runner.infer(data=data_of(thread)) for _ in range(5)]:
                assert future.get(200)["data"].tobytes() == data_of(thread)

        in_threads(12, work)


def test_a_request_that_waits_for_room_until_its_deadline_fails(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, pending=1) as client:
        runner = InferRunner(client)
        busy = [runner.infer(data=b"slow") for _ in range(8)]
        with suppress(Overloaded):
            while True:
                busy.append(runner.infer(data=b"slow", block=False))
        with pytest.raises(DeadlineExceeded):
            runner.infer(data=b"late", deadline_ms=50).get(200)
        for future in busy:
            future.cancel()


# -- futures ----------------------------------------------------------------------------------------


def test_futures_are_those_of_concurrent_futures(runner: InferRunner) -> None:
    futures = runner.infer_many([{"data": data_of(number)} for number in range(40)])
    done, left = concurrent.futures.wait(futures, timeout=200)
    assert (len(done), left) == (40, set())
    futures = runner.infer_many([{"data": data_of(number)} for number in range(40)])
    came = [future.get()["data"].tobytes() for future in concurrent.futures.as_completed(futures, timeout=200)]
    assert sorted(came) == sorted(data_of(number) for number in range(40))
    first = concurrent.futures.wait(
        [runner.infer(data=b"slow"), runner.infer(data=b"quick")], 60, concurrent.futures.FIRST_COMPLETED
    )
    assert len(first.done) == 1
    bad = runner.infer(data=b"poison")
    assert isinstance(bad.exception(60), BadInput)
    assert bad.exception() is not bad.exception()


def test_futures_are_awaited(runner: InferRunner) -> None:
    async def main() -> None:
        assert (await runner.infer(data=b"one"))["data"].tobytes() == b"one"
        assert (await asyncio.wrap_future(runner.infer(data=b"two")))["data"].tobytes() == b"two"
        with pytest.raises(BadInput):
            await runner.infer(data=b"poison")
        waiting = asyncio.ensure_future(asyncio.wrap_future(future := runner.infer(data=b"slow")))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # The loop hands it on.
        await asyncio.sleep(0.01)
        assert future.cancelled()

    asyncio.run(main())


def test_a_callback_may_send_again_and_cannot_wait(runner: InferRunner) -> None:
    found: list[Any] = []
    over = threading.Event()

    def again(future: InferFuture) -> None:
        found.append(future.get()["data"].tobytes())
        if len(found) < 20:
            runner.infer(data=data_of(len(found))).add_done_callback(again)  # type: ignore[arg-type]
            return
        try:
            runner.infer(data=b"never waited for").get()
        except ClientMisuse as error:
            found.append(error)
        over.set()

    runner.infer(data=data_of(0)).add_done_callback(again)  # type: ignore[arg-type]
    assert over.wait(200)
    *came, error = found
    assert came == [data_of(number) for number in range(20)]
    assert "a done-callback waits for an answer of its own client" in str(error)


def test_a_callback_that_sends_where_no_room_is_left_does_not_wait_for_itself(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, pending=1) as client:
        runner = InferRunner(client)
        over = threading.Semaphore(0)

        def again(left: int) -> None:
            future = runner.infer(data=data_of(left))
            future.add_done_callback(lambda _: again(left - 1) if left else over.release())

        for _ in range(30):
            again(2)
        for _ in range(30):
            assert over.acquire(timeout=200)


def test_no_answer_in_time_is_a_timeout_and_the_request_goes_on(runner: InferRunner) -> None:
    future = runner.infer(data=b"slow")
    for wait in (future.get, future.result, future.exception):
        with pytest.raises(NotInTime) as raised:
            wait(0.01)
        assert isinstance(raised.value, TimeoutError)
        assert isinstance(raised.value, concurrent.futures.TimeoutError)
    assert not future.wait(0.01)
    assert future.get(200)["data"].tobytes() == b"slow"


def rows_of(pipeline: RunningPipeline) -> int:
    """What its only stage has computed."""
    return int(pipeline.status()["stages"][0]["rows"])


def test_a_cancelled_request_is_over_at_once_wherever_it_is(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir, name="me") as client:
        runner = InferRunner(client)
        computed = rows_of(late)
        slow = [runner.infer(data=b"slow") for _ in range(40)]
        called: list[InferFuture] = []
        slow[-1].add_done_callback(called.append)  # type: ignore[arg-type]
        assert all(future.cancel() for future in slow)
        assert all(future.cancelled() and future.cancel() for future in slow)
        assert called == [slow[-1]]
        for future in slow:
            with pytest.raises(Cancelled) as raised:
                future.get(200)
            assert isinstance(raised.value, concurrent.futures.CancelledError)
        assert len(concurrent.futures.wait(slow, 60).done) == 40
        # One of them was being computed.
        assert runner.infer(data=b"next").get(200)["data"].tobytes() == b"next"
        assert rows_of(late) - computed < 20
        answered = runner.infer(data=b"x")
        answered.get(200)
        assert not answered.cancel()
        assert not answered.cancelled()
        quiet(client)


def test_a_result_is_made_once_whichever_threads_ask(runner: InferRunner) -> None:
    for _ in range(20):
        future = runner.infer(data=data_of(1, LARGE))
        found: list[Any] = []
        in_threads(6, lambda _, future=future, found=found: found.append(future.get(200)))  # type: ignore[misc]
        assert len(set(map(id, found))) == 1


def test_an_answer_that_no_program_looks_at_gives_its_slots_back(client: SharedClient, runner: InferRunner) -> None:
    for number in range(100):
        runner.infer(data=data_of(number, LARGE))
    assert client.wait_until_idle(60)
    quiet(client)
