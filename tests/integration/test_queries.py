"""The samples of LoadGen's queries, sent to a real pipeline: each has the answer of its own inputs, whatever shared a
request with it. LoadGen itself is in `test_bench.py`."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from pipeline.load.inputs import Stock, make_stock
from pipeline.load.queries import Queries
from pipeline.load.target import Opened, Target, opened
from pipeline.testing import running
from tests.links import LINK

HERE = Path(__file__).parent


class Sample(NamedTuple):
    """As LoadGen's, which cannot be made here."""

    id: int
    index: int


class Answers:
    """What came of samples, by their ids."""

    def __init__(self, count: int) -> None:
        self.found: dict[int, list[Any]] = {}
        self._left = count
        self._over = threading.Event()

    def take(self, ids: Sequence[int], answers: Sequence[Any]) -> None:
        for each, answer in zip(ids, answers, strict=True):
            # A copy, since the array is valid only here.
            self.found.setdefault(each, []).append(None if answer is None else answer.tolist())
        self._left -= len(ids)
        if self._left <= 0:
            self._over.set()

    def wait(self) -> dict[int, list[Any]]:
        assert self._over.wait(60), f"{self._left} samples have no answer"
        return self.found


@pytest.fixture(scope="module", params=[1, 8])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A pipeline that adds one to 256 numbers, and refuses those of which the first is below 0."""
    folder = tmp_path_factory.mktemp("queries")
    shutil.copy(HERE / "row_stages.py", folder)
    document = {
        "name": "queries",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [256]}],
        "stages": [{"name": "add", "use": "./row_stages.py:Add", "batch": {"max_size": 8}}],
        "outputs": {"y": "add.y"},
        "ingress": {"rows": request.param},
        **LINK,
    }
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    with running(path) as pipeline, opened(Target(str(pipeline.run_dir)), "bench", 64) as model:
        assert model.rows == request.param
        yield model


def test_each_sample_has_the_answer_of_its_own_inputs(target: Opened) -> None:
    stock = make_stock(target.runner.input_specs(), {}, {})
    chosen = random.Random(7)
    samples = [Sample(each, chosen.randrange(len(stock.requests))) for each in chosen.sample(range(10_000), 203)]
    answers = Answers(len(samples))
    queries = Queries(target.runner, stock, target.rows, answers.take)
    queries.issue(samples[:3])
    queries.issue([])
    queries.issue(samples[3:])
    expected = {each.id: [(stock.of(each.index)["x"] + np.float32(1)).tolist()] for each in samples}
    assert answers.wait() == expected
    assert not queries.failures
    assert queries.sent == ({1: 203} if target.rows == 1 else {3: 1, 8: 25})


def test_all_samples_of_a_request_that_fails_have_failed_and_no_others(target: Opened) -> None:
    good, bad = np.ones(256, np.float32), np.full(256, -1, np.float32)
    stock = Stock([{"x": good}] * 15 + [{"x": bad}], "")
    samples = [Sample(each, each) for each in range(16)]
    answers = Answers(len(samples))
    queries = Queries(target.runner, stock, target.rows, answers.take)
    queries.issue(samples)
    found = answers.wait()
    failed = [each for each in range(16) if found[each] == [None]]
    assert failed == list(range(16 - target.rows, 16))
    assert queries.failures == {"BadInput": target.rows}
    assert all(found[each] == [[2.0] * 256] for each in range(16 - target.rows))


def test_samples_that_do_not_fit_are_told_as_failed_at_once(target: Opened) -> None:
    stock = Stock([{"x": np.ones(3, np.float32)}], "")
    answers = Answers(9)
    queries = Queries(target.runner, stock, target.rows, answers.take)
    queries.issue([Sample(each, 0) for each in range(9)])
    assert answers.wait() == {each: [None] for each in range(9)}
    assert queries.failures == {"InvalidRequest": 9}
