"""A stage that does not compute on the CPU has several batches under way, with the same guarantees as others."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline.client import Client
from pipeline.errors import RequestRefused, Unavailable
from pipeline.testing import running

STAGE = '''
import time
from stages.errors import BadInput
from stages.spec import TensorSpec

class Fixed:
    """Adds one to numbers, some time later: its orders travel as columns."""
    inputs = (TensorSpec("data", "uint8", (16,)),)
    outputs = (TensorSpec("more", "uint8", (16,)),)
    concurrency = 3

    def start(self, batch):
        return time.monotonic() + 0.005, batch, batch.stack("data"), batch.out_rows("more")

    def done(self, token):
        due, batch, data, out = token
        if time.monotonic() < due:
            return False
        for row, given in enumerate(data):
            if given[1] == 99:
                batch.fail(row, "refused on purpose")
            out[row][...] = given + 1
        return True

    def process(self, batch):
        raise AssertionError("no batch has failed")

class Later:
    """Answers "FLYING ATTACHED", the batches under way and the segments attached so far, some time later."""
    inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 4096}),)
    outputs = (TensorSpec("said", "json", ("bytes",), {"bytes": 4096}),)
    concurrency = 3

    def __init__(self):
        self.flying = self.attached = 0

    def attach_memory(self, buffers):
        assert all(buffer.nbytes for buffer in buffers) and not self.flying
        self.attached += 1

    def start(self, batch):
        if any(row.tobytes() == b"refused" for row in batch.rows("data")):
            raise BadInput("refused at the start")
        self.flying += 1
        seconds = 0.05 if any(row.tobytes() == b"slow" for row in batch.rows("data")) else 0.005
        return time.monotonic() + seconds, batch, self.flying

    def done(self, token):
        due, batch, flying = token
        if time.monotonic() < due:
            return False
        self.flying -= 1
        self.answer(batch, flying)
        return True

    def process(self, batch):
        self.answer(batch, 0)

    def answer(self, batch, flying):
        for row, data in enumerate(batch.rows("data")):
            if data.tobytes() in (b"bad", b"refused"):
                raise BadInput("refused on purpose")
            batch.write(row, "said", {"data": data.tobytes().decode(), "flying": flying, "attached": self.attached})
'''

CONFIG = """
name: flying
inputs: [{name: data, dtype: uint8, shape: [bytes], max: {bytes: 4096}}]
stages:
  - {name: first, use: "./later.py:Later", batch: {max_size: 2}}
"""


FIXED = """
name: fixed
inputs: [{name: data, dtype: uint8, shape: [16]}]
stages:
  - {name: first, use: "./later.py:Fixed", batch: {max_size: 2}}
  - {name: second, use: "./later.py:Fixed", batch: {max_size: 3}, inputs: {data: first.more}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "later.py").write_text(STAGE)
    path = tmp_path / "flying.yaml"
    path.write_text(CONFIG)
    return path


def ask(client: Client, texts: list[bytes], each: Callable[[int], None] = lambda count: None) -> list[Any]:
    """The answers, or errors, in order; several requests are under way."""
    waiting, flying, answers = deque(texts), deque[Any](), []
    while waiting or flying:
        while waiting and len(flying) < 6:
            flying.append(client.submit(data=waiting.popleft()))
        try:
            with flying.popleft().get(200) as result:
                answers.append(result["said"])
        except RequestRefused as error:
            answers.append(error)
        each(len(answers))
    return answers


def test_as_many_batches_are_under_way_as_the_stage_takes_and_each_gets_its_own_answer(config: Path) -> None:
    texts = [b"slow" if number % 7 == 0 else b"%d" % number for number in range(120)]
    with running(config) as pipeline, pipeline.client() as client:
        answers = ask(client, texts)
        assert pipeline.stop() == 0
    assert [answer["data"].encode() for answer in answers] == texts
    assert max(answer["flying"] for answer in answers) == 3


@pytest.mark.parametrize("text", [b"bad", b"refused"], ids=["at the end", "at the start"])
def test_only_the_guilty_request_of_a_batch_fails(config: Path, text: bytes) -> None:
    texts = [text if number % 5 == 3 else b"%d" % number for number in range(60)]
    with running(config) as pipeline, pipeline.client() as client:
        answers = ask(client, texts)
    for given, answer in zip(texts, answers):
        if given == text:
            assert isinstance(answer, RequestRefused)
        else:
            assert answer["data"].encode() == given


def test_what_was_under_way_in_a_worker_that_is_killed_is_computed_by_the_next(config: Path) -> None:
    texts = [b"slow"] * 60
    with running(config) as pipeline, pipeline.client() as client:
        (pid,) = pipeline.worker_pids("first")

        def kill(count: int) -> None:
            if count == 10:
                os.kill(pid, signal.SIGKILL)

        answers = ask(client, texts, kill)
        assert pipeline.worker_pids("first") != [pid]
    assert [answer["data"] for answer in answers] == ["slow"] * 60


def test_new_segments_are_attached_when_nothing_is_under_way(
    config: Path, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    with running(config) as pipeline, pipeline.client() as client:
        assert ask(client, [b"x"])[0]["attached"] == 1
        flying = [client.submit(data=b"slow") for _ in range(6)]
        children_of(pipeline.pid)["pipeline[flying] scheduler"].kill()
        for future in flying:
            try:
                future.get(200).release()
            except Unavailable:
                client.reconnect(60)
        assert ask(client, [b"y"])[0] == {"data": "y", "flying": 1, "attached": 2}


def test_columns_are_in_flight_too_and_none_is_lost_with_a_worker_that_is_killed(config: Path) -> None:
    path = config.with_name("fixed.yaml")
    path.write_text(FIXED)
    with running(path) as pipeline, pipeline.client() as client:
        waiting, flying, right = deque(range(300)), deque[tuple[int, Any]](), 0
        while waiting or flying:
            while waiting and len(flying) < 16:
                number = waiting.popleft()
                data = np.full(16, number % 90, np.uint8)
                data[1] = 99 if number % 10 == 3 else 0
                flying.append((number, client.submit(data=data)))
            number, future = flying.popleft()
            if number % 10 == 3:
                with pytest.raises(RequestRefused):
                    future.get(200)
            else:
                with future.get(200) as result:
                    assert result["more"][0] == number % 90 + 2
            right += 1
            if right in (100, 200):
                (pid,) = pipeline.worker_pids("first" if right == 100 else "second")
                os.kill(pid, signal.SIGKILL)
        assert right == 300
        assert pipeline.stop() == 0
