"""Callers that wait in their thread, over a runner that answers by itself: how many there are, and what they check."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench.callers import blocking
from bench.callers.blocking import Direct, Threads, ThreadsMany
from bench.floors.slots import TornTensor


class Answer(dict[str, Any]):
    """A result."""

    def get(self, timeout: float) -> Answer:  # type: ignore[override]
        return self

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Runner:
    """Answers with what it is given; the request of one number, with something else."""

    def __init__(self, wrong: int = -1) -> None:
        self.threads: set[int] = set()
        self.sizes: list[int] = []
        self._wrong = wrong

    def infer(self, **inputs: Any) -> Answer:
        return self.infer_many([inputs])[0]

    def infer_many(self, requests: list[dict[str, Any]]) -> list[Answer]:
        time.sleep(0.001)
        self.threads.add(threading.get_ident())
        answers = []
        for request in requests:
            tensor = request["tensor"].copy()
            tensor[-1] ^= self._wrong == len(self.sizes)
            answers.append(Answer(tensor=tensor))
        self.sizes.append(len(requests))
        return answers


class Manager:
    def stop(self) -> None:
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
    monkeypatch.setattr(blocking, "RelayRun", Run)
    monkeypatch.setattr(blocking.pipeline, "connect", lambda run_dir: manager)  # type: ignore[attr-defined]
    return made


def test_as_many_threads_call_as_there_are_callers_and_each_call_is_timed(runner: Runner) -> None:
    subject = Threads()
    subject.setup(512, 16)
    assert len(subject.latency(0.01)) >= 1
    assert runner.threads == {threading.get_ident()}
    runner.threads.clear()
    flow = subject.throughput(0.02, 4)
    assert len(runner.threads) == 4
    assert threading.get_ident() not in runner.threads
    assert flow.requests == len(flow.samples) >= 4
    assert min(flow.samples) >= 1000
    before = set(runner.threads)
    subject.throughput(0.02, 4)
    assert runner.threads == before, "the CPU time of threads that end is lost"
    subject.close()


def test_a_wrong_answer_in_any_thread_ends_the_measurement(runner: Runner) -> None:
    subject = Threads()
    subject.setup(512, 4)
    runner._wrong = 6
    with pytest.raises(TornTensor):
        subject.throughput(0.1, 4)
    subject.close()


def test_many_requests_go_in_one_call_and_all_answers_are_checked(runner: Runner) -> None:
    subject = ThreadsMany()
    subject.setup(512, 16)
    runner.sizes.clear()
    flow = subject.throughput(0.02, 16)
    assert runner.sizes == [16] * len(flow.samples)
    assert flow.requests == 16 * len(flow.samples)
    runner._wrong = len(runner.sizes)
    with pytest.raises(TornTensor):
        subject.throughput(0.02, 16)
    subject.close()


def test_the_stages_are_called_and_their_answer_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def call(stage: Any, **inputs: Any) -> dict[str, Any]:
        called.append(stage)
        return {"tensor": inputs["tensor"] if len(called) < 7 else np.zeros(512, np.uint8)}

    monkeypatch.setattr(blocking, "call", call)
    subject = Direct()
    subject.setup(512, 1)
    assert len({id(stage) for stage in called}) == 3
    assert len(subject.latency(0.0)) == 1
    with pytest.raises(TornTensor):
        subject.latency(0.0)
    subject.close()
