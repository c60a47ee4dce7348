"""Queries: the samples of LoadGen's queries as requests, and the answer of each sample.

    query of 20 samples     a request carries 8 rows     three requests, of 7, 7 and 6 rows
                            a request carries one        twenty requests

A request of several rows is one submission, one order and one answer; row n of the answer is that of the request's
sample n. If a request fails, all its samples have failed, since none of them has an answer.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.client.batches import evenly
from pipeline.errors import PipelineError, RequestError
from pipeline.load.inputs import Stock
from pipeline.load.target import Runner

__all__ = ["Completed", "Queries", "Sample", "answers_of", "told_of"]

Array = NDArray[Any]

Completed = Callable[[Sequence[int], Sequence["Array | None"]], None]
"""Is told the ids of samples that are over, and the answer of each: the first output of that row, None if it has none
whose bytes lie one after the other, or has failed. The arrays are valid until it returns. Called in the thread that
takes in answers, or in that of `Queries.issue`."""


class Sample(Protocol):
    """What LoadGen wants to be answered."""

    @property
    def id(self) -> int:
        """By which LoadGen is told that it is answered; another one each time."""

    @property
    def index(self) -> int:
        """Which of the inputs it carries."""


class Queries:
    """Sends samples, and tells what came of each.

    Args:
        stock: the inputs of the samples.
        most: how many rows one request may carry; if several, all inputs are of fixed shapes.
        completed: is called once for each sample.
    """

    def __init__(self, runner: Runner, stock: Stock, most: int, completed: Completed) -> None:
        self._runner = runner
        self._stock = stock
        self._most = most
        self._completed = completed
        self._counting = threading.Lock()
        #: Samples that failed, by the kind of their error.
        self.failures: Counter[str] = Counter()
        #: How many requests of so many rows were sent.
        self.sent: Counter[int] = Counter()

    def issue(self, samples: Sequence[Sample]) -> None:
        """Send the samples of one query. Waits while too many requests wait for slots."""
        start = 0
        for size in evenly(len(samples), self._most) if samples else ():
            piece = samples[start : start + size]
            start += size
            self.sent[size] += 1
            ids = [each.id for each in piece]
            rows = [self._stock.of(each.index) for each in piece]
            try:
                future = self._runner.infer(rows[0] if size == 1 else _together(rows), deadline_ms=None)
            except PipelineError as error:
                self._fail(ids, error)
            else:
                future.add_done_callback(partial(self._done, ids))

    def _done(self, ids: Sequence[int], future: concurrent.futures.Future[Any]) -> None:
        try:
            result = future.result(0)
        except (PipelineError, concurrent.futures.CancelledError) as error:
            self._fail(ids, error)
        else:
            self._completed(ids, answers_of(result, len(ids)))

    def _fail(self, ids: Sequence[int], error: BaseException) -> None:
        kind = error.code if isinstance(error, RequestError) else type(error).__name__
        with self._counting:
            self.failures[kind] += len(ids)
        self._completed(ids, [None] * len(ids))


def answers_of(result: Mapping[str, Any], rows: int) -> list[Array | None]:
    """The answer of each row; see `Completed`.

    Args:
        result: of a request of so many rows; of one, it has no axis for them.
    """
    first = next(iter(result.values()), None)
    return [_dense(value) for value in ([first] if rows == 1 else [None] * rows if first is None else first)]


def told_of(sent: Mapping[int, int], most: int) -> str:
    """Of how many rows the requests were, for a person.

    Args:
        sent: as `Queries.sent`.
        most: how many rows one request may carry.
    """
    requests, rows = sum(sent.values()), sum([size * count for size, count in sent.items()])
    if most == 1:
        why = "one row each, as this pipeline takes them; `ingress.rows` allows more, where all tensors are of one size"
    elif rows == requests:
        why = f"one row each, since LoadGen's queries had one sample; up to {most} may go together"
    else:
        why = f"up to {max(sent)} rows, {rows:,} in all; up to {most} may go together"
    return f"{requests:,} of {why}"


def _together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _dense(value: Any) -> Array | None:
    """An array of numbers without gaps; None: it is none, such as a JSON value."""
    if isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
        return np.ascontiguousarray(value)
    return None
