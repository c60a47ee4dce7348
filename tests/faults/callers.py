"""Callers: clients of each kind, which send numbers without a pause and note which version answers each."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.client import Client
from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient

__all__ = ["AsyncCaller", "Caller", "SharedCaller"]


class Caller(threading.Thread):
    """A client of its own thread, with `most` requests under way: 0, 1, 2 ... Each answer is noted with its version."""

    def __init__(self, run: str | Path, most: int) -> None:
        super().__init__(daemon=True)
        self.run_name, self.most = run, most
        self.sent = 0
        self.versions: dict[int, int] = {}
        self.resent = 0
        self.error: BaseException | None = None
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            self._ask()
        except BaseException as error:
            self.error = error

    def note(self, number: int, stamp: Any) -> None:
        """An answer has come."""
        answered, version = stamp
        assert answered == number
        assert number not in self.versions
        self.versions[number] = int(version)

    def _ask(self) -> None:
        with Client.connect(self.run_name, name=f"caller of {self.most}") as client:
            while not self.enough.is_set():
                futures = []
                for _ in range(self.most):
                    futures.append((self.sent, client.submit(number=[self.sent])))
                    self.sent += 1
                for number, future in futures:
                    with future.get(200) as result:
                        self.note(number, result["stamp"])

    def finish(self) -> list[int]:
        """Stop; the versions that have answered, in the order of the requests. All must be answered by then."""
        self.enough.set()
        self.join()
        if self.error is not None:
            raise self.error
        assert sorted(self.versions) == list(range(self.sent))
        return [self.versions[number] for number in range(self.sent)]


class AsyncCaller(Caller):
    """As many tasks of one client in a loop."""

    def _ask(self) -> None:
        asyncio.run(self._ask_in_tasks())

    async def _ask_in_tasks(self) -> None:
        async with await AsyncClient.connect(self.run_name, name=f"{self.most} tasks") as client:
            runner = AsyncInferRunner(client)
            await asyncio.gather(*[self._ask_one_by_one(runner) for _ in range(self.most)])

    async def _ask_one_by_one(self, runner: AsyncInferRunner) -> None:
        while not self.enough.is_set():
            number, self.sent = self.sent, self.sent + 1
            with await runner.infer(number=np.array([number])) as result:
                self.note(number, result["stamp"])


class SharedCaller(Caller):
    """Threads that share a client, with as many requests under way."""

    def _ask(self) -> None:
        numbering = threading.Lock()
        with SharedClient.connect(self.run_name, name=f"threads, {self.most}") as client:
            runner = InferRunner(client)

            def ask() -> None:
                while not self.enough.is_set():
                    futures = []
                    for _ in range(self.most // 4):
                        with numbering:
                            futures.append((self.sent, runner.infer(number=np.array([self.sent]))))
                            self.sent += 1
                    for number, future in futures:
                        self.note(number, future.get(200)["stamp"])

            with ThreadPoolExecutor(4) as threads:
                for each in [threads.submit(ask) for _ in range(4)]:
                    each.result()
