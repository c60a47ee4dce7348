"""Callers that are tasks, over a runner that answers by itself: how many there are, and what they check."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bench.callers import tasks
from bench.callers.tasks import Tasks, TasksMany
from bench.floors.slots import TornTensor


class Answer(dict[str, Any]):
    """A result."""

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Runner:
    """Answers with what it is given; the request of one number, with something else."""

    def __init__(self) -> None:
        self.wrong = -1
        self.sizes: list[int] = []
        self.most = self._now = 0

    async def infer(self, **inputs: Any) -> Answer:
        (future,) = await self.infer_many([inputs])
        return await future

    async def infer_many(self, requests: list[dict[str, Any]]) -> list[asyncio.Future[Answer]]:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        futures = []
        for request in requests:
            tensor = request["tensor"].copy()
            tensor[-1] ^= self.wrong == len(self.sizes)
            future = asyncio.get_running_loop().create_future()
            future.set_result(Answer(tensor=tensor))
            futures.append(future)
        self.sizes.append(len(requests))
        return futures


class Manager:
    async def close(self) -> None:
        pass


class Run:
    run_dir = "there"

    def __init__(self, text: str) -> None:
        pass

    def pids(self) -> dict[str, list[int]]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    made = Runner()
    manager: Any = Manager()
    manager.infer_runner = lambda name: made

    async def connect(run_dir: str) -> Manager:
        return manager  # type: ignore[no-any-return]

    monkeypatch.setattr(tasks, "RelayRun", Run)
    monkeypatch.setattr(tasks.pipeline, "connect_async", connect)  # type: ignore[attr-defined]
    return made


def test_as_many_tasks_call_at_once_as_there_are_callers_and_each_call_is_timed(runner: Runner) -> None:
    subject = Tasks()
    subject.setup(512, 64)
    assert len(subject.latency(0.01)) >= 1
    assert runner.most == 1
    flow = subject.throughput(0.02, 64)
    assert runner.most == 64
    assert flow.requests == len(flow.samples) >= 64
    assert min(flow.samples) >= 1000
    subject.close()
    subject.close()


def test_a_wrong_answer_in_any_task_ends_the_measurement_and_no_task_is_left(runner: Runner) -> None:
    subject = Tasks()
    subject.setup(512, 64)
    runner.wrong = 40
    with pytest.raises(TornTensor):
        subject.throughput(0.1, 64)
    subject.close()


def test_many_requests_go_in_one_call_and_all_answers_are_checked(runner: Runner) -> None:
    subject = TasksMany()
    subject.setup(512, 16)
    runner.sizes.clear()
    flow = subject.throughput(0.02, 16)
    assert runner.sizes == [16] * len(flow.samples)
    assert flow.requests == 16 * len(flow.samples)
    runner.wrong = len(runner.sizes)
    with pytest.raises(TornTensor):
        subject.throughput(0.02, 16)
    subject.close()
