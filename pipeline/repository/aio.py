"""Models in an asyncio loop: those that run on this host, whatever started them, behind the interface of every manager.

    async with pipeline.connect_async("mnist") as manager:
        runner = manager.infer_runner("mnist")
        result = await runner.infer(Input3=array)

There is one client for each model, shared by all its runners, and all of them belong to the loop in which they were
made. The manager ends no pipeline and starts none: `pipeline.InferenceManager` does, and may be used beside this.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, NoReturn

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncInferRunner
from pipeline.client.driver import PATIENCE_S
from pipeline.client.queue import PENDING
from pipeline.errors import ClientMisuse, PipelineError
from pipeline.repository.connected import ConnectedModels
from pipeline.repository.server import Server

__all__ = ["AsyncInferenceManager", "connect_async"]

#: Seconds to wait for a model that is starting, if the caller gives no time.
_START_S = 60.0
_LOOK_S = 0.05

_NOT_AWAITED = (
    "connect_async was not awaited: write `async with pipeline.connect_async(...) as manager:`, or "
    "`manager = await pipeline.connect_async(...)`; outside asyncio use pipeline.connect"
)


def connect_async(
    run: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float | None = None,
    name: str = "",
    pending: int = PENDING,
    patience_s: float = PATIENCE_S,
) -> _Connecting:
    """The models that run on this host, for the tasks of the running loop: await it, or enter it with `async with`.

    Args:
        run: a pipeline's name, a run's id (detect-29227), its folder's path, or None for all that run now or later.
        timeout_s: seconds to wait until one of them runs and is ready. None: 60 for one that is starting, none if there
            is not one.
        name: what `pipeline status` calls this program; empty: as it was started, such as `app.py`.
        pending: how many requests of one model may wait for a slot before `infer(block=False)` raises Overloaded, and
            how many `infer_many` copies.
        patience_s: seconds that a request waits for a pipeline that is not there, such as one that restarts.

    Raises:
        InvalidRequest: `pending` or `patience_s` is no such number.
        Unavailable: (when it is awaited or entered) none runs, or none is ready in time.
    """
    return _Connecting(run, timeout_s, name, pending, patience_s)


class _Connecting:
    """See `connect_async`. It may be awaited, or entered, once."""

    def __init__(
        self, run: str | os.PathLike[str] | None, timeout_s: float | None, name: str, pending: int, patience_s: float
    ) -> None:
        self._models = ConnectedModels(run, name, pending, patience_s)
        self._timeout_s = timeout_s
        self._options = name, pending, patience_s
        self._manager: AsyncInferenceManager | None = None

    def __await__(self) -> Generator[Any, None, AsyncInferenceManager]:
        return self._connect().__await__()

    async def _connect(self) -> AsyncInferenceManager:
        models, timeout_s = self._models, self._timeout_s
        end = time.monotonic() + (_START_S if timeout_s is None else timeout_s)
        while not any(found.ready for found in models.runs()):
            if (timeout_s is None and not models.runs()) or time.monotonic() >= end:
                raise models.missing()
            await asyncio.sleep(_LOOK_S)
        manager = AsyncInferenceManager(models, *self._options)
        ready = sorted({found.pipeline for found in models.runs() if found.ready})
        try:
            # So that what each of them takes is known from here on.
            await asyncio.gather(*[manager.infer_runner(name).ready() for name in ready])
        except BaseException:
            await manager.close()
            raise
        return manager

    async def __aenter__(self) -> AsyncInferenceManager:
        self._manager = await self
        return self._manager

    async def __aexit__(self, *_: object) -> None:
        if self._manager is not None:
            await self._manager.close()

    def __getattr__(self, name: str) -> Any:
        # Only for what this lacks. (What looks for a method that Python may have of anything is told that it is not
        # there.)
        if name.startswith("_") or not hasattr(AsyncInferenceManager, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise ClientMisuse(_NOT_AWAITED)

    def __enter__(self) -> NoReturn:
        raise ClientMisuse(_NOT_AWAITED)

    def __exit__(self, *_: object) -> None:
        """Never called: without it, Python would not come as far as `__enter__`."""


class AsyncInferenceManager:
    """See `connect_async`, which makes it."""

    def __init__(self, models: ConnectedModels, name: str, pending: int, patience_s: float) -> None:
        self._models = models
        self._options = name, pending, patience_s
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, AsyncClient] = {}

    def get_models(self) -> list[str]:
        """The names of the models that run now.

        Raises:
            ClientMisuse: the manager was closed, or is of another process.
        """
        return self._models.get_models()

    def infer_runner(self, name: str) -> AsyncInferRunner:
        """What asks the model of this name. Any number of the loop's tasks may share it.

        What a model takes is known at once if it was ready when the manager connected; otherwise await the runner's
        `ready` before its bindings are looked at.

        Raises:
            Unavailable: it does not run.
            ClientMisuse: the manager was closed, or is of another process or loop.
        """
        # First: in a child nothing of its parent's may be touched.
        self._models._refuse_misuse()
        if asyncio.get_running_loop() is not self._loop:
            raise ClientMisuse(
                "this manager belongs to the asyncio loop in which it was made: call pipeline.connect_async() in each "
                "loop, or use pipeline.connect, whose runners any thread may use"
            )
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = AsyncClient(self._models._place(name), *self._options)
        return AsyncInferRunner(client)

    async def status(self) -> dict[str, dict[str, Any]]:
        """How each model is, by its name, as plain values (see docs/manager.md).

        Raises:
            ClientMisuse: the manager was closed, or is of another process.
        """
        # In a thread: models that are not ready are asked too, which takes a while.
        return await asyncio.to_thread(self._models.status)

    async def serve(self, port: int | None = None, *, block: bool = True, **options: Any) -> Server:
        """Serve the models to callers of KServe v2, until this task is cancelled or the manager is closed; with
        `block=False`, return once it serves: `async with await manager.serve(block=False)`.

        Args and Raises: as `Models.serve`. No signal is handled: with `asyncio.run`, Ctrl-C cancels the main task.
        """
        self._models._refuse_misuse()
        starting = asyncio.ensure_future(asyncio.to_thread(self._models.serve, port, block=False, **options))
        try:
            server = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: what it starts is ended.
            with suppress(PipelineError):
                await (await starting).aclose()
            raise
        if block:
            async with server:
                await asyncio.to_thread(server.wait)
        return server

    async def close(self) -> None:
        """Leave. The models go on; what this program has under way fails with Unavailable, and a server answers what it
        has. It may be called again.
        """
        # In a thread: a server may take a while.
        await asyncio.to_thread(self._models.stop)
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.close()

    async def __aenter__(self) -> AsyncInferenceManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a manager cannot be sent to another process: call pipeline.connect_async() there")

    def __repr__(self) -> str:
        return f"<AsyncInferenceManager: {self._models._over or self._models._shown()}>"
