"""Models: those of a `pipeline serve`: which there are, which are loaded, and how that changes.

    of a config that was named      loaded at the start, or serving does not begin
    of a file of the repository     loaded at the start, or when a client wishes it; a file that is wrong is told
    of a pipeline that runs         connected only: another program has started it, which alone loads and unloads it

Each change is told to all gateways before it is answered. Changes of one model follow one another. A pipeline whose
supervisor has died is started again (`restarts` decides when), and all gateways are told why it is not there meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.client.client import Client
from pipeline.errors import ClientMisuse, ConfigError, KserveError, PipelineError, StartError, Unavailable
from pipeline.keeping.folder import Folder, Found
from pipeline.keeping.restarts import Restarts
from pipeline.logs.log import OperatorLog
from pipeline.repository.inference import InferenceManager
from pipeline.repository.log import Forwarded
from pipeline.repository.run import StartedRun
from pipeline.serving.catalogue import model_from
from pipeline.serving.frames import ModelTold

__all__ = ["KeptModels", "check"]

_UNAVAILABLE, _LOADING, _UNLOADING = "UNAVAILABLE", "LOADING", "UNLOADING"


@dataclass
class _Kept:
    """A model that is loaded."""

    place: str
    load: int
    drain_s: float
    path: str = ""
    """Of its config; empty: another program has started its pipeline."""


class _Manager(InferenceManager):
    """Its runs say what they say in the log of this process.

    Args:
        log: see above.
    """

    def __init__(self, log: OperatorLog) -> None:
        super().__init__(name="gateway")
        self._log = log

    def _spawn(self, config: str | os.PathLike[str], assignments: Sequence[str], name: str) -> StartedRun:
        return StartedRun(config, assignments, Forwarded(name, self._log.pass_on), self._log.settings.arguments())


class KeptModels:
    """See above.

    Args:
        configs: the paths of those that were named, by the names of their models.
        running: the pipelines that others have started: by their names, where clients connect (see `ModelTold.place`).
        folder: the repository.
        wanted: which models of it are loaded at the start; None: all.
        assignments: what `--set` takes, for all configs.
        tell: has every gateway show a model as this says, and returns then.
        forget: has every gateway forget a model, and returns then.
        say: tells operators; the text begins with its level.
        log: where the runs that are started say what.
    """

    def __init__(
        self,
        configs: Mapping[str, str],
        running: Mapping[str, str],
        folder: Folder | None,
        wanted: Collection[str] | None,
        assignments: Sequence[str],
        *,
        tell: Callable[[ModelTold], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
        say: Callable[[str], None],
        log: OperatorLog,
    ) -> None:
        #: Starts and ends their pipelines.
        self._manager = _Manager(log)
        self._configs = dict(configs)
        self._running = dict(running)
        self._folder = folder
        self._wanted = wanted
        self._assignments = tuple(assignments)
        self._tell = tell
        self._forget = forget
        self._say = say
        #: What the repository had at the last look, and every name that gateways have from it.
        self._found: dict[str, Found] = {}
        self._listed: set[str] = set()
        self._loaded: dict[str, _Kept] = {}
        #: How often each was loaded.
        self._loads: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._looking = asyncio.Lock()
        self._restarts = Restarts()

    # -- the start ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what is loaded at the start, side by side.

        Raises:
            StartError, KserveError: a config that was named cannot be served; or no file of the repository can.
            Unavailable: a pipeline that was named does not run.
        """
        for name, place in sorted(self._running.items()):
            await asyncio.to_thread(check, place)
            self._loaded[name] = _Kept(place, 1, 0.0)
            await self._tell(ModelTold(0, name, place, 1))
        await _all([self._begin(name, path) for name, path in self._configs.items()])
        if self._folder is None:
            return
        await self.look()
        mine = [name for name in self._found if self._wanted is None or name in self._wanted]
        sound = [name for name in mine if not self._found[name].why]
        await _all([self._begin_of_folder(name) for name in sound])
        if mine and not self.names:
            raise StartError(f"{self._folder.path}: none of its models can be served, for the reasons above")

    async def _begin_of_folder(self, name: str) -> None:
        try:
            await self._begin(name, self._found[name].path)
        except (PipelineError, KserveError) as error:
            self._say(f"error: {name} is not served: {error}")

    async def _begin(self, name: str, path: str) -> None:
        async with self._lock_of(name):
            await self._first_load(name, path)

    # -- what there is --------------------------------------------------------------------------

    @property
    def wanted(self) -> list[str]:
        """The names of those that `start` loads, as far as they are known before."""
        return [*sorted(self._running), *self._configs, *sorted(self._wanted or ())]

    @property
    def names(self) -> list[str]:
        """Of those that are loaded."""
        return list(self._loaded)

    def described(self) -> str:
        """What is served now, for people."""
        if self._folder is not None and not self._loaded:
            return f"no model yet of {self._folder.path}"
        return ", ".join(self._loaded)

    @property
    def drain_s(self) -> float:
        """Seconds that what is under way may take at the end."""
        return max([model.drain_s for model in self._loaded.values() if model.drain_s], default=10.0)

    async def watch(self) -> list[Coroutine[Any, Any, None]]:
        """As `Kept.watch`."""
        return self.look_after(time.monotonic())

    def look_after(self, now: float) -> list[Coroutine[Any, Any, None]]:
        """What must be done for pipelines that have died: work that the caller begins, and need not wait for."""
        work: list[Coroutine[Any, Any, None]] = []
        for name, model in self._loaded.items():
            # What is locked changes just now, and is looked at afterwards.
            why = "" if not model.path or self._lock_of(name).locked() else self._why_dead(name)
            if why and (delay := self._restarts.died(name, now)) is not None:
                work.append(self._tell_death(name, why, delay))
        return work + [self._restart(name) for name in self._restarts.due(now)]

    def _why_dead(self, name: str) -> str:
        """How the pipeline of a model has died; empty: it has not."""
        try:
            self._place_of(name)
        except Unavailable as error:
            return str(error).partition("; ")[0]
        except ClientMisuse:
            pass  # It is unloaded just now.
        return ""

    async def _tell_death(self, name: str, why: str, delay_s: float) -> None:
        later = f" in {delay_s:.1f} s" if delay_s else ""
        self._say(f"error: {why}; it is started again{later}")
        async with self._lock_of(name):
            model = self._loaded.get(name)
            if model is not None and self._why_dead(name):
                await self._tell(ModelTold(0, name, model.place, model.load, why=f"{why}; it is started again"))

    async def _restart(self, name: str) -> None:
        async with self._lock_of(name):
            model = self._loaded.get(name)
            if model is None:
                return
            if not self._why_dead(name):
                # A client has loaded it meanwhile.
                self._restarts.started(name, time.monotonic())
                return
            try:
                await self._reload(name, model.path)
            except (PipelineError, OSError) as error:
                delay_s = self._restarts.failed(name, time.monotonic())
                why = f"its pipeline has died, and could not be started again: {error}"
                self._say(f"error: {name}: {why}; it is tried again in {delay_s:.1f} s")
                await self._tell(ModelTold(0, name, model.place, model.load, why=f"{why}; it is tried again"))

    async def look(self) -> None:
        """See what files the repository has now, and tell.

        Raises:
            KserveError: the folder cannot be read (INTERNAL).
        """
        if self._folder is None:
            return
        async with self._looking:
            try:
                there = await asyncio.to_thread(self._folder.look)
            except ConfigError as error:
                raise KserveError(str(error), "INTERNAL") from None
            before, self._found = self._found, {}
            for name, found in there.items():
                if name in self._configs or name in self._running:
                    found = Found(found.path, f"{found.path}: a model {name!r} is served already, from elsewhere")
                    if found != before.get(name):
                        self._say(f"error: {found.why}")
                elif found != before.get(name):
                    if found.why:
                        self._say(f"error: {found.why}")
                    if name not in self._loaded:
                        await self._tell(ModelTold(0, name, state=_UNAVAILABLE if found.why else "", why=found.why))
                self._found[name] = found
            self._listed |= there.keys()
            # One that is loaded serves on without its file, until it is unloaded.
            for name in self._listed - there.keys() - self._loaded.keys() - self._configs.keys() - self._running.keys():
                self._listed.discard(name)
                await self._forget(name)

    # -- changes --------------------------------------------------------------------------------

    async def load(self, name: str) -> None:
        """Have a model served; if it is, its file is read anew, and the new version takes over.

        Raises:
            KserveError: there is none, or it did not start (INTERNAL); another program has started it
                (PERMISSION_DENIED).
        """
        self._refuse_foreign(name)
        await self.look()
        async with self._lock_of(name):
            path = self._path_of(name)
            try:
                if name in self._loaded:
                    await self._reload(name, path)
                else:
                    await self._first_load(name, path)
            except PipelineError as error:
                # The reason alone: KserveErrors of ours are PipelineErrors too.
                raise KserveError(f"failed to load {name!r}: {error}", "INTERNAL") from None

    def _path_of(self, name: str) -> str:
        if name in self._configs:
            return self._configs[name]
        found = self._found.get(name)
        if found is None:
            raise KserveError(f"failed to load {name[:200]!r}, failed to poll from model repository", "INTERNAL")
        if found.why:
            raise KserveError(f"failed to load {name[:200]!r}: {found.why}", "INTERNAL")
        return found.path

    async def _reload(self, name: str, path: str) -> None:
        model = self._loaded[name]
        await asyncio.to_thread(self._manager.reload, name, path, assignments=self._assignments)
        self._restarts.started(name, time.monotonic())
        place, before = self._place_of(name), model.place
        model.drain_s, model.path, model.place = self._manager.drain_s(name), path, place
        # Each gateway confirms it once it is connected to the new version.
        await self._tell(ModelTold(0, name, place, model.load))
        # In another place only if it had died.
        self._say(f"info: {name}: {'a new version serves' if place == before else 'started anew'}")

    async def _first_load(self, name: str, path: str) -> None:
        await self._tell(ModelTold(0, name, state=_LOADING))
        try:
            await asyncio.to_thread(self._manager.load, path, name, assignments=self._assignments)
            try:
                place = self._place_of(name)
                await asyncio.to_thread(check, place)
                drain_s = self._manager.drain_s(name)
            except PipelineError:
                await asyncio.to_thread(self._manager.unload, name)
                raise
        except PipelineError as error:
            await self._tell(ModelTold(0, name, state=_UNAVAILABLE, why=str(error)))
            raise
        self._loads[name] = self._loads.get(name, 0) + 1
        self._loaded[name] = _Kept(place, self._loads[name], drain_s, path)
        await self._tell(ModelTold(0, name, place, self._loads[name]))

    async def unload(self, name: str) -> None:
        """End a model. What is under way is answered first. One that is not loaded, or not there, is no error.

        Raises:
            KserveError: another program has started it (PERMISSION_DENIED).
        """
        self._refuse_foreign(name)
        if name not in self._loaded and name not in self._locks:
            return
        async with self._lock_of(name):
            model = self._loaded.get(name)
            if model is None:
                return
            # First, so that no gateway sends anything that the pipeline would refuse.
            await self._tell(ModelTold(0, name, state=_UNLOADING, drain_s=model.drain_s))
            await asyncio.to_thread(self._manager.unload, name)
            del self._loaded[name]
            self._restarts.forget(name)
            await self._tell(ModelTold(0, name, state=_UNAVAILABLE, why="unloaded"))
            self._say(f"info: {name}: unloaded")

    def stop(self, timeout_s: float | None = None) -> None:
        """End the pipelines. Args: as of `InferenceManager.stop`."""
        self._manager.stop(timeout_s=timeout_s)

    def _place_of(self, name: str) -> str:
        """The folder of its run.

        Raises:
            Unavailable: its run has died.
        """
        place = self._manager.place(name)
        assert callable(place)
        return str(place())

    def _refuse_foreign(self, name: str) -> None:
        if name in self._running:
            raise KserveError(
                f"{name!r} was started by another program, which alone can load and unload it", "PERMISSION_DENIED"
            )

    def _lock_of(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def check(place: str) -> None:
    """That it runs, and has no tensor that KServe does not have."""
    with Client.connect(place, name="gateway") as client:
        model_from(client.interface)


async def _all(work: Sequence[Awaitable[None]]) -> None:
    """Do it side by side; the first error is raised once all are over."""
    for found in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found
