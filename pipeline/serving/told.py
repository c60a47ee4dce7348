"""Told: a gateway's end of its link to the keeper: what it is told comes into force, and what clients wish is asked.

A change is confirmed once every request that begins from then on sees it. For a model that is served from now on, or
was reloaded, that is when its pipeline, the new version of it, is connected, or is not there for a while; for one that
is served no more, when what was under way there is answered. Changes of one model follow one another; all others come
into force at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pipeline.client.access import Place
from pipeline.errors import KserveError, Unavailable, WireError
from pipeline.kserve.settings import RegionEntry
from pipeline.metrics.traffic import Traffic, merged
from pipeline.serving.calls import Control
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.counts import Counts
from pipeline.serving.frames import (
    Call,
    Complete,
    Confirmed,
    Counted,
    Drain,
    Frame,
    Hello,
    Load,
    LogTold,
    ModelGone,
    ModelTold,
    RegionGone,
    RegionTold,
    Report,
    Settled,
    TraceTold,
    Unload,
    Wish,
)
from pipeline.serving.journal import Journal
from pipeline.serving.link import Link
from pipeline.serving.regions import Regions

__all__ = ["Told"]

#: Seconds to wait for a pipeline that should be there.
_CONNECT_S = 5.0
_DRAIN_LOOK_S = 0.02
#: Seconds that the keeper may take for a wish; it answers every one, unless it is stopped. A load has a limit there.
_ASK_S = 60.0
_LONG_S = 3600.0
#: How often counts are said that nothing asks for: so much is lost of a gateway that is killed.
_COUNTS_S = 1.0


class Told(Control):
    """What a gateway knows from its keeper."""

    def __init__(self, catalogue: Catalogue, regions: Regions, journal: Journal, traffic: Traffic) -> None:
        self._catalogue = catalogue
        self._regions = regions
        self._journal = journal
        self._traffic = traffic
        self.complete = asyncio.Event()
        """It was told everything."""
        self.leave = asyncio.Event()
        """It is told to end, or the keeper is gone."""
        self.drain_s = 0.0
        #: Where each model runs: `ModelTold.place`.
        self._places: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[int, asyncio.Future[Settled]] = {}
        self._calls = 0
        self._link: Link | None = None

    def begin(self, link: Link, version: int) -> None:
        """Say hello, and listen."""
        self._link = link
        self.send(Hello(version))
        self._saying = asyncio.get_running_loop().create_task(self._say_counts())

    def send(self, frame: Frame) -> None:
        assert self._link is not None
        self._link.send(frame)

    async def ask(self, wish: Wish) -> Settled:
        """See `Control.ask`."""
        self._calls += 1
        number = self._calls
        answer: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self.send(Call(number, wish))
            return await asyncio.wait_for(answer, _LONG_S if isinstance(wish, (Load, Unload)) else _ASK_S)
        except WireError as error:
            raise KserveError(str(error)) from None
        except asyncio.TimeoutError:
            raise KserveError("the server's keeper does not answer: it is stopped, or busy", "UNAVAILABLE") from None
        finally:
            self._asked.pop(number, None)

    # -- what it is told --------------------------------------------------------------------------

    def take(self, frame: Frame, descriptor: int | None) -> None:
        """A frame of the keeper's."""
        if isinstance(frame, LogTold):
            self._journal.settings = frame.settings
            self._confirm(frame.revision)
        elif isinstance(frame, TraceTold):
            self._journal.trace = frame.settings
            self._confirm(frame.revision)
        elif isinstance(frame, RegionTold):
            assert descriptor is not None
            self._regions.take(RegionEntry(frame.name, frame.key, frame.offset, frame.nbytes), descriptor)
            self._confirm(frame.revision)
        elif isinstance(frame, RegionGone):
            self._regions.unregister(frame.name)
            self._confirm(frame.revision)
        elif isinstance(frame, ModelTold):
            self._begin(self._serve(frame) if frame.place else self._hide(frame))
        elif isinstance(frame, ModelGone):
            self._begin(self._forget(frame))
        elif isinstance(frame, Complete):
            self._begin(self._complete(tuple(self._tasks)))
        elif isinstance(frame, Report):
            self.send(Counted(frame.revision, self._counts(), self._traffic))
        elif isinstance(frame, Settled):
            self._settle(frame)
        elif isinstance(frame, Drain):
            self.drain_s = frame.limit_s
            self.leave.set()

    def end(self, why: str) -> None:
        """The keeper is gone. (The lifeline ends this process as well.)"""
        self.leave.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(KserveError(f"the server is stopping: its keeper: {why}", "UNAVAILABLE"))

    def _confirm(self, revision: int) -> None:
        if revision:
            self.send(Confirmed(revision))

    def _settle(self, frame: Settled) -> None:
        answer = self._asked.get(frame.number)
        if answer is None or answer.done():
            return
        if frame.code:
            answer.set_exception(KserveError(frame.why, frame.code))
        else:
            answer.set_result(frame)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _complete(self, before: tuple[asyncio.Task[None], ...]) -> None:
        await asyncio.gather(*before)
        self.complete.set()

    # -- models -----------------------------------------------------------------------------------

    async def _serve(self, frame: ModelTold) -> None:
        async with self._lock_of(frame.name):
            self._places[frame.name] = frame.place
            served = self._catalogue.of(frame.name)
            if served is None or served.load != frame.load:
                await self._leave_model(frame.name, 0.0)
                await self._catalogue.add(
                    frame.name, self._place(frame.name), frame.load, 0.0 if frame.why else _CONNECT_S, frame.why
                )
            else:
                served.why = frame.why
                if not frame.why:
                    # It was reloaded, or its pipeline was started anew: the client that it has goes there.
                    await served.follow(_CONNECT_S)
        self._confirm(frame.revision)

    def _place(self, name: str) -> Place:
        """For a client: it looks again whenever its connection was lost, and a run may have been started anew."""
        if os.sep not in self._places[name]:
            return self._places[name]

        def where() -> Path:
            place = self._places.get(name)
            if place is None:
                raise Unavailable(f"the model {name!r} was unloaded")
            return Path(place)

        return where

    async def _hide(self, frame: ModelTold) -> None:
        async with self._lock_of(frame.name):
            await self._leave_model(frame.name, frame.drain_s, frame)
            self._catalogue.know(frame.name, frame.why, frame.state)
        self._confirm(frame.revision)

    async def _leave_model(self, name: str, drain_s: float, frame: ModelTold | None = None) -> None:
        """Nothing new is taken for it at once; what is under way may take `drain_s` seconds."""
        served = self._catalogue.hide(name)
        if served is None:
            return
        if frame is not None:
            self._catalogue.know(name, frame.why, frame.state)
        end = asyncio.get_running_loop().time() + drain_s
        while served.client.outstanding and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_DRAIN_LOOK_S)
        await served.client.close()
        self._places.pop(name, None)

    async def _forget(self, frame: ModelGone) -> None:
        async with self._lock_of(frame.name):
            await self._leave_model(frame.name, 0.0)
            self._catalogue.forget(frame.name)
        self._confirm(frame.revision)

    def _lock_of(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    # -- counts -----------------------------------------------------------------------------------

    def _counts(self) -> dict[str, tuple[int, Counts]]:
        return {served.name: (served.load, served.tally.counts) for served in self._catalogue.served}

    async def _say_counts(self) -> None:
        said = (self._counts(), merged([]))
        while not self.leave.is_set():
            await asyncio.sleep(_COUNTS_S)
            if (now := (self._counts(), self._traffic)) != said:
                # The traffic as it is now: it goes on.
                said = (now[0], merged([now[1]]))
                self.send(Counted(0, *said))
