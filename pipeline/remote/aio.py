"""Models of a server of KServe v2 in an asyncio loop, behind the interface of `pipeline.connect_async`.

    async with pipeline.AsyncRemoteInferenceManager("grpc://models.example:8001") as manager:
        result = await manager.infer_runner("mnist").infer(Input3=array)

Beneath is what threads use: one session, one exchange, one link. Here calls are awaited, and a task that is cancelled
cancels its request. A thread asks the server what a model takes, so that the loop waits for no network: the models that
it lists when the manager connects, and others when they are first asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from pipeline.client.bindings import Bindings
from pipeline.client.result import Result
from pipeline.errors import ClientMisuse, Overloaded, PipelineError
from pipeline.remote.exchange import Job
from pipeline.remote.model import RemoteModel
from pipeline.remote.models import RemoteInferenceManager
from pipeline.remote.parts import RemoteParts
from pipeline.remote.runner import RemoteRunner

__all__ = ["AsyncRemoteInferenceManager", "AsyncRemoteParts", "AsyncRemoteRunner"]

#: Seconds that all models together may take to say what they take, as a manager connects.
_DESCRIBE_S = 10.0


class _Gate:
    """Wakes a task of this loop, from whatever thread."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """See `client.gate.Opens`."""
        # RuntimeError: the loop is closed, and with it the task.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.opened.set)


class AsyncRemoteRunner(Bindings):
    """Has one model of a server infer, for the tasks of the loop of its manager. See `AsyncInferRunner`.

    Args:
        name: of the model.
        runner: for threads; None: the server was not asked yet what the model takes.
        find: asks it.
        loop: to which it belongs.
    """

    def __init__(
        self, name: str, runner: RemoteRunner | None, find: Callable[[], RemoteRunner], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._name = name
        self._found = runner
        self._find = find
        self._loop = loop

    @property
    def _runner(self) -> RemoteRunner:
        if self._found is None:
            raise ClientMisuse(
                f"it is not known yet what the model {self._name!r} takes and gives: the server did not tell it when "
                f"this manager connected; await the runner's ready() first"
            )
        return self._found

    @property
    def _client(self) -> RemoteModel:  # type: ignore[override]
        return self._runner._client

    async def ready(self) -> None:
        """Wait until it is known what the model takes and gives.

        Raises:
            Unavailable: the server has no such model that is ready, or does not answer.
            ClientMisuse: the manager was stopped, or is of another process or loop.
        """
        self._refuse_other_loop()
        if self._found is None:
            self._found = await asyncio.to_thread(self._find)
        self._found.ready()

    def why(self) -> str:
        """As `RemoteRunner.why`. Raises ClientMisuse: the model is not known yet, see `ready`."""
        return self._runner.why()

    def __repr__(self) -> str:
        return f"<AsyncRemoteRunner of {self._name!r}>" if self._found is None else super().__repr__()

    async def infer(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        retries: int = 0,
        block: bool = True,
        name: Any = None,
        traceparent: str = "",
        **more: Any,
    ) -> Result:
        """The answer to one request, or to a batch. Args and Raises: as `AsyncInferRunner.infer`, and as `ready`."""
        await self.ready()
        future, jobs = self._runner.call(inputs, more, deadline_ms, priority, retries, name, traceparent)
        try:
            if block:
                await self._put(jobs)
            else:
                self._runner.exchange.put(jobs, block=False)
            await asyncio.wrap_future(future)
        finally:
            # Also of a task that is cancelled; what is done is not cancelled any more.
            self._runner.exchange.cancel(jobs)
        return future.result()

    async def infer_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        retries: int = 0,
        name: Any = None,
        traceparent: str = "",
    ) -> list[asyncio.Future[Result]]:
        """Send many requests; a future for the answer to each. Args and Raises: as `AsyncInferRunner.infer_many`."""
        await self.ready()
        made = self._runner.made(requests, deadline_ms, priority, retries, name, traceparent)
        jobs = [job for _, each in made for job in each]
        try:
            await self._put(jobs)
        except BaseException:
            self._runner.exchange.cancel(jobs)
            raise
        return [asyncio.wrap_future(future) for future, _ in made]

    def stream(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        name: Any = None,
        traceparent: str = "",
        **more: Any,
    ) -> AsyncRemoteParts:
        """The parts of an answer, as `AsyncInferRunner.stream`."""

        async def make() -> RemoteParts:
            await self.ready()
            ask = partial(
                self._runner.stream, inputs, deadline_ms=deadline_ms, priority=priority, name=name,
                traceparent=traceparent, **more,
            )  # fmt: skip
            # In a thread: it waits for room.
            return await asyncio.to_thread(ask)

        return AsyncRemoteParts(make)

    def loan(self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, **shapes: Any) -> Any:
        """Raises ClientMisuse: a server elsewhere has no slots here."""
        return self._runner.loan(inputs, **shapes)

    async def _put(self, jobs: Sequence[Job]) -> None:
        """Send them, each when there is room for it."""
        exchange = self._runner.exchange
        for job in jobs:
            while True:
                try:
                    exchange.put([job], block=False)
                    break
                except Overloaded:
                    gate = _Gate()
                    exchange.await_room(gate)
                    await gate.opened.wait()

    def _refuse_other_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ClientMisuse(
                "this manager belongs to the asyncio loop in which it was made: make one in each loop, or use "
                "pipeline.RemoteInferenceManager, whose runners any thread may use"
            )


class AsyncRemoteParts(AsyncIterator[Result]):
    """The parts of one answer. Made by `AsyncRemoteRunner.stream`; the request is sent by the first step."""

    def __init__(self, make: Callable[[], Awaitable[RemoteParts]]) -> None:
        self._make = make
        self._parts: RemoteParts | None = None
        self._asked = False

    def __aiter__(self) -> AsyncRemoteParts:
        return self

    async def __anext__(self) -> Result:
        if self._asked:
            raise ClientMisuse("two tasks asked for the next part of one answer: let one task iterate over it")
        self._asked = True
        try:
            if self._parts is None:
                self._parts = await self._make()
            found: Result | None = await asyncio.to_thread(next, self._parts, None)
        except asyncio.CancelledError:
            self._close()
            raise
        finally:
            self._asked = False
        if found is None:
            raise StopAsyncIteration
        return found

    def _close(self) -> None:
        if self._parts is not None:
            self._parts.close()

    async def aclose(self) -> None:
        """The rest is not wanted. A second call does nothing."""
        self._close()

    async def __aenter__(self) -> AsyncRemoteParts:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()


class AsyncRemoteInferenceManager:
    """The models of a server of KServe v2, for the tasks of the running loop: await it, or enter it with `async with`.

    Args and Raises (when it is awaited or entered): as `RemoteInferenceManager`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._make = partial(RemoteInferenceManager, url, **options)
        self._manager: RemoteInferenceManager | None = None
        self._models: list[str] = []

    def __await__(self) -> Generator[Any, None, AsyncRemoteInferenceManager]:
        return self._connect().__await__()

    async def _connect(self) -> AsyncRemoteInferenceManager:
        if self._manager is None:
            self._loop = asyncio.get_running_loop()
            self._manager = await asyncio.to_thread(self._make)
            try:
                self._models = await asyncio.to_thread(self._manager.get_models)
                await self._describe()
            except BaseException:
                await self.close()
                raise
        return self

    async def _describe(self) -> None:
        """Ask what the models take, side by side. Runners ask of those that are not ready now, or answer late."""
        asking = [asyncio.to_thread(self._describe_one, name) for name in self._models]
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*asking), _DESCRIBE_S)

    def _describe_one(self, name: str) -> None:
        with suppress(PipelineError):
            self._there._server.describe(name)

    @property
    def _there(self) -> RemoteInferenceManager:
        if self._manager is None:
            raise ClientMisuse("await this manager, or enter it with `async with`, before it is used")
        return self._manager

    def get_models(self) -> list[str]:
        """The names of the server's models, as they were when this manager connected or `status` was asked last."""
        self._there._server.exchange.refuse_child()
        return list(self._models)

    def infer_runner(self, name: str, *, version: str = "", max_batch_size: int | None = None) -> AsyncRemoteRunner:
        """What asks the model of this name. Any number of the loop's tasks may share it.

        What a model takes is known at once if it was listed and ready when the manager connected. Otherwise, and with
        `version` or `max_batch_size`, await the runner's `ready` before its bindings are looked at. That there is no
        such model is told there too, or by the first request.

        Args: as `RemoteInferenceManager.infer_runner`.

        Raises:
            ClientMisuse: the manager was stopped, or is of another process or loop.
        """
        manager = self._there
        if asyncio.get_running_loop() is not self._loop:
            raise ClientMisuse(
                "this manager belongs to the asyncio loop in which it was made: make one in each loop, or use "
                "pipeline.RemoteInferenceManager, whose runners any thread may use"
            )
        find = partial(manager.infer_runner, name, version=version, max_batch_size=max_batch_size)
        return AsyncRemoteRunner(name, manager._known_runner(name, version, max_batch_size), find, self._loop)

    def why(self) -> str:
        """As `RemoteInferenceManager.why`."""
        return self._there.why()

    async def status(self) -> dict[str, dict[str, Any]]:
        """How each model is, by its name, as plain values (see docs/manager.md)."""
        found = await asyncio.to_thread(self._there.status)
        self._models = sorted(found)
        return found

    async def serve(self, port: int | None = None, **options: Any) -> NoReturn:
        """Raises ClientMisuse: as `RemoteInferenceManager.serve`."""
        self._there.serve(port, **options)

    async def close(self) -> None:
        """Leave. The models go on; what this program has under way fails with Unavailable. It may be called again."""
        if self._manager is not None:
            await asyncio.to_thread(self._manager.stop)

    async def __aenter__(self) -> AsyncRemoteInferenceManager:
        return await self._connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a manager cannot be sent to another process: make one there")

    def __repr__(self) -> str:
        return f"<AsyncRemoteInferenceManager: {self._manager or 'not connected'}>"
