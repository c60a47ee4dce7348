"""The feed's own order of things, over a pipeline whose answers the test gives."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.client import Future
from pipeline.feeding.feed import Feed
from shm.view import SegmentTable
from stages.spec import TensorSpec


class Result(dict[str, Any]):
    stages: dict[str, dict[str, float]] = {}  # noqa: RUF012

    def __init__(self, name: str, released: list[str]) -> None:
        super().__init__(count=3)
        self.name = name
        self.released = released

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.append(self.name)


class Pipeline:
    """Takes what it is sent, and answers one request a pump, in the order that it is told."""

    def __init__(self, order: list[str]) -> None:
        spec = TensorSpec("data", "uint8", ("bytes",), {"bytes": 10})
        self.plan = SimpleNamespace(inputs=(spec,), config_path="demo.yaml")
        self.order = order
        self.sent: dict[str, Future] = {}
        self.released: list[str] = []

    def draft_nowait(self, data: tuple[int, ...]) -> Any:
        view = np.zeros(data, np.uint8)
        return SimpleNamespace(inputs={"data": view}, submit=lambda **_: self._submit(view.tobytes().decode()))

    def _submit(self, name: str) -> Future:
        owner: Any = SimpleNamespace(make_result=lambda _: Result(name, self.released))
        connection: Any = SimpleNamespace(together=nullcontext)
        plan: Any = self.plan
        self.sent[name] = Future(len(self.sent), owner, connection, SegmentTable(), plan, 1_000_000)
        return self.sent[name]

    def flush(self) -> None:
        pass

    def pump(self, timeout_s: float) -> int:
        self.sent[self.order.pop(0)].answered_ns = 2_000_000
        return 1


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in "abcd":
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in "abcd"]


def test_records_come_in_the_order_of_the_files_whatever_the_order_of_the_answers(files: list[str]) -> None:
    pipeline = Pipeline(list("dbca"))
    records = list(Feed(pipeline, files).run())
    assert [record.input for record in records] == files
    assert all(record.error is None and record.latency_ms == 1.0 for record in records)


def test_an_answer_whose_turn_has_not_come_gives_its_slot_back_at_once(files: list[str]) -> None:
    # Else the slots of answers run out, and the first file never gets the one that it needs.
    pipeline = Pipeline(list("dbca"))
    seen: list[list[str]] = []
    feed = Feed(pipeline, files).run(lambda: seen.append(list(pipeline.released)))
    assert next(feed).input == files[0]
    assert seen == [[], ["d"], ["d", "b"], ["d", "b", "c"]]
    assert pipeline.released[:3] == ["d", "b", "c"]


def test_a_stopped_feed_finishes_what_it_has_sent_and_takes_up_nothing_more(files: list[str]) -> None:
    pipeline = Pipeline(list("abcd"))
    feed = Feed(pipeline, files)
    feed.stop()
    assert list(feed.run()) == []
    assert (feed.taken, pipeline.sent) == (0, {})
