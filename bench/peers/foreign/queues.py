"""multiprocessing.Queue between three processes, with tensors as numpy arrays; the last one sends back the stamps."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

from bench.peers.foreign.exchange import Exchange, stamp_of
from bench.peers.foreign.talk import serve

__all__ = ["PATIENCE_S", "Queues"]

PATIENCE_S = 30.0
"""Seconds for an answer."""


def _pass_on(source: Any, target: Any, last: bool) -> None:
    while (tensor := source.get()) is not None:
        target.put(stamp_of(tensor) if last else tensor)


class Queues(Exchange):
    """See above."""

    def __init__(self) -> None:
        self._workers: list[Any] = []

    def start(self, nbytes: int, window: int) -> None:
        # Fork, since this process has no threads yet, and a queue is quickest to share so.
        context = multiprocessing.get_context("fork")
        self._queues = [context.Queue() for _ in range(4)]
        for number in range(3):
            ends = (self._queues[number], self._queues[number + 1], number == 2)
            worker = context.Process(target=_pass_on, args=ends, daemon=True)
            worker.start()
            self._workers.append(worker)

    def submit(self, number: int, place: Any) -> None:
        self._queues[0].put(place)

    def collect(self) -> Sequence[bytes]:
        return [self._queues[3].get(timeout=PATIENCE_S)]

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.join()
        self._workers = []


if __name__ == "__main__":
    serve(Queues())
