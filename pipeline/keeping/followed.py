"""Followed: the process that a manager starts which serves (`pipeline.repository.server`): gateways before its models.

    stdin     `serving.boot.KeeperBoot`, then a line whenever the manager has other models; its end is the end of both
    stdout    `serving.boot.Ports`, once gateways serve

It starts and ends no pipeline: the manager does, or the programs that the manager is connected to. A model that was
unloaded is forgotten once what is under way there was answered; one that does not run now stays, and its requests are
refused until it runs again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

import msgspec
import setproctitle

from pipeline.errors import KserveError, PipelineError, StartError
from pipeline.keeping.keeper import Keeper
from pipeline.keeping.models import check
from pipeline.lifeline import StarterWatch
from pipeline.logs.log import OperatorLog
from pipeline.serving.boot import KeeperBoot, ModelPlace, Ports
from pipeline.serving.frames import ModelTold
from pipeline.serving.settings import Settings
from pipeline.streams import prepare_streams

__all__ = ["FollowedModels", "main"]

_DRAIN_S = 10.0
_FAILED = 1


class FollowedModels:
    """The models of a manager.

    Args:
        models: those that it has now.
        newer: those that it has by now, if it has told anything since the last call.
        tell, forget, say: as of `KeptModels`.
        check: raises what speaks against serving what runs at a place.
    """

    def __init__(
        self,
        models: Mapping[str, ModelPlace],
        newer: Callable[[], Mapping[str, ModelPlace] | None],
        *,
        tell: Callable[[ModelTold], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
        say: Callable[[str], None],
        check: Callable[[str], None] = check,
    ) -> None:
        self._models = models
        self._newer = newer
        self._tell = tell
        self._forget = forget
        self._say = say
        self._check = check
        #: What gateways show.
        self._shown: dict[str, ModelPlace] = {}
        #: Why a model is not shown.
        self._refused: dict[str, str] = {}
        #: How often each was loaded.
        self._loads: dict[str, int] = {}

    @property
    def wanted(self) -> list[str]:
        """As `Kept.wanted`."""
        return list(self._models)

    @property
    def drain_s(self) -> float:
        """As `Kept.drain_s`."""
        return max([model.drain_s for model in self._shown.values() if model.drain_s], default=_DRAIN_S)

    def described(self) -> str:
        """As `Kept.described`."""
        return ", ".join(self._shown) or "no model yet"

    async def start(self) -> None:
        """Have gateways told what is served at the start.

        Raises:
            StartError: the manager has models, and none of them can be served.
        """
        await self.watch()
        if self._models and not self._shown:
            raise StartError("; ".join(f"{name} cannot be served: {why}" for name, why in self._refused.items()))

    async def watch(self) -> list[Coroutine[Any, Any, None]]:
        """Have gateways told what has changed. What cannot be served yet is tried again with the next call."""
        models = self._models = self._models if (newer := self._newer()) is None else newer
        for name in [name for name in self._shown if name not in models]:
            await self._leave(name)
        for name in [name for name in self._refused if name not in models]:
            del self._refused[name]
        for name, model in models.items():
            if self._shown.get(name) != model:
                await self._show(name, model)
        return []

    async def _show(self, name: str, model: ModelPlace) -> None:
        try:
            # What is shown already has only moved, and may be away just now.
            if name not in self._shown:
                await asyncio.to_thread(self._check, model.place)
        except (PipelineError, KserveError) as error:
            if self._refused.get(name) != str(error):
                self._refused[name] = str(error)
                self._say(f"error: {name} is not served: {error}")
            return
        if name not in self._shown:
            self._loads[name] = self._loads.get(name, 0) + 1
        self._refused.pop(name, None)
        self._shown[name] = model
        await self._tell(ModelTold(0, name, model.place, self._loads[name]))

    async def _leave(self, name: str) -> None:
        model = self._shown.pop(name)
        await self._tell(ModelTold(0, name, state="UNLOADING", drain_s=model.drain_s or _DRAIN_S))
        await self._forget(name)

    async def load(self, name: str) -> None:
        """Raises KserveError: the manager's program alone loads models."""
        self._refuse()

    async def unload(self, name: str) -> None:
        """Raises KserveError: the manager's program alone unloads models."""
        self._refuse()

    def _refuse(self) -> None:
        raise KserveError("the program that serves these models alone loads and unloads them", "PERMISSION_DENIED")

    async def look(self) -> None:
        """There is nothing else that could be loaded."""

    def stop(self, timeout_s: float | None = None) -> None:
        """Nothing was started here."""


def main() -> None:
    """Entry point of the process."""
    prepare_streams()
    lines: SimpleQueue[bytes] = SimpleQueue()
    starter = StarterWatch(lines.put)
    boot = KeeperBoot.read(lines.get())
    setproctitle.setproctitle(f"pipeline gateways of {os.getppid()}")
    models = partial(FollowedModels, boot.models, partial(_newest, lines))
    log = OperatorLog(process="serve")
    try:
        sys.exit(Keeper(boot.settings, models, _tell_ports, lambda: starter.gone, log=log).run())
    except (PipelineError, KserveError) as error:
        log("error", str(error))
        sys.exit(_FAILED)
    finally:
        log.close()


def _newest(lines: SimpleQueue[bytes]) -> dict[str, ModelPlace] | None:
    line = None
    while not lines.empty():
        line = lines.get()
    return None if line is None else msgspec.json.decode(line, type=dict[str, ModelPlace])


def _tell_ports(settings: Settings, line: str) -> None:
    ports = Ports(settings.http_port, settings.grpc_port, settings.metrics_port)
    print(msgspec.json.encode(ports).decode(), flush=True)
