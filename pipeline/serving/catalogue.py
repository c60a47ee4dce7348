"""Catalogue: the models that the gateway serves, with the client and the counts of each.

    name ──▶ Served ──▶ client.aio.AsyncClient ──▶ the run that has the model now, also after a reload or a restart
                  └───▶ Tally

Ready is what the scheduler says, which is the canary's truth. A model that was unloaded stays known by its name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.client.access import Place
from pipeline.client.aio import AsyncClient
from pipeline.errors import ClientMisuse, KserveError, PipelineError, Unavailable
from pipeline.kserve.documents import IndexEntry
from pipeline.kserve.model import Model, model_of
from pipeline.serving.counts import Tally
from pipeline.wire.interface import Interface
from pipeline.wire.status import PipelineStatus

__all__ = ["Catalogue", "Served", "model_from"]

#: Seconds that a scheduler may take to say how it is.
_ASK_S = 1.0
#: Seconds for which an answer stands for others that ask the same.
_FRESH_S = 0.1

#: Seconds that a call waits for a client that goes to the new version of its pipeline.
_MOVE_S = 1.0

_GATEWAY = "gateway"


def model_from(interface: Interface) -> Model:
    """What KServe's clients see of a pipeline.

    Raises:
        KserveError: a tensor that KServe does not have.
    """
    return Model(interface, interface.max_batch_size, interface.in_parts)


@dataclass(eq=False)
class Served:
    """A model that is loaded."""

    name: str
    client: AsyncClient
    #: Where its pipeline runs.
    place: Place = None
    #: See `frames.ModelTold.load`.
    load: int = 0
    tally: Tally = field(default_factory=Tally)
    #: Why its pipeline is not there, as the keeper has said; empty: it should be.
    why: str = ""
    #: The model of the interface that it was made of.
    _model: tuple[Interface, Model] | None = None
    #: When the scheduler was asked, and what it said: its status, or why there is none.
    _status: tuple[float, PipelineStatus | str] = (-1e9, "")
    _asking: asyncio.Task[PipelineStatus | str] | None = None

    @property
    def model(self) -> Model:
        """As its pipeline is now: a reload may have changed it.

        Raises:
            KserveError: it was not there yet (UNAVAILABLE).
        """
        try:
            interface = self.client.interface
        except ClientMisuse:
            raise KserveError(f"model {self.name!r}: its pipeline has not started yet", "UNAVAILABLE") from None
        if self._model is None or self._model[0] is not interface:
            self._model = (interface, model_from(interface))
        return self._model[1]

    @property
    def known(self) -> bool:
        """Whether its pipeline ever was there, so that its tensors are known."""
        try:
            return bool(self.client.interface)
        except ClientMisuse:
            return False

    async def follow(self, limit_s: float) -> None:
        """Wait until its client is connected to the run that serves now, or for `limit_s` seconds."""
        with suppress(Unavailable):
            await self.client.follow(limit_s)

    async def moved(self) -> None:
        """If a new version has taken over, wait until its client is there. What begins afterwards is the new one's."""
        if self.client.moves:
            # It may be unloaded meanwhile.
            with suppress(ClientMisuse):
                await self.follow(_MOVE_S)

    async def status(self) -> PipelineStatus | str:
        """What the scheduler says, or why it says nothing."""
        if time.monotonic() - self._status[0] < _FRESH_S:
            return self._status[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        # The one that began the question may hang up: the others still want the answer.
        return await asyncio.shield(self._asking)

    async def _ask(self) -> PipelineStatus | str:
        try:
            found: PipelineStatus | str = await self.client.inquire(_ASK_S)
        except PipelineError as error:
            found = str(error)
        self._status = (time.monotonic(), found)
        return found

    async def why_not_ready(self) -> str:
        """Why it is not; empty: it is."""
        found = await self.status()
        if isinstance(found, str):
            return self.why or found or "its scheduler does not answer"
        if found.ready:
            return ""
        reasons = [f"{stage}: {why}" if stage else why for stage, why in found.reasons.items()]
        return "; ".join(reasons) or "its scheduler says so"


class Catalogue:
    """The models by name.

    Args:
        pending: how many requests of one model may wait for a slot; one more is refused.
    """

    def __init__(self, pending: int) -> None:
        self._pending = pending
        #: None: it was unloaded, or was never loaded.
        self._served: dict[str, Served | None] = {}
        #: Of those that are not served: the state, and why.
        self._states: dict[str, tuple[str, str]] = {}
        self.draining = False

    async def add(self, name: str, place: Place, load: int, limit_s: float, why: str = "") -> None:
        """Serve a model.

        Args:
            load: how often it was loaded.
            limit_s: seconds to wait for its pipeline. If it is not there then, requests are refused until it is.
            why: see `Served.why`.
        """
        client = AsyncClient(place, name=_GATEWAY, pending=self._pending)
        self._served[name] = Served(name, client, place, load, why=why)
        self._states.pop(name, None)
        with suppress(Unavailable):
            await client.reconnect(limit_s)

    def know(self, name: str, reason: str = "", state: str = "") -> None:
        """There is a model of this name, which is not served now.

        Args:
            reason: why it is not; if it and the state are empty: it never was.
            state: LOADING, UNLOADING or UNAVAILABLE.
        """
        self._served.setdefault(name, None)
        self._states[name] = (state or ("UNAVAILABLE" if reason else ""), reason)

    def forget(self, name: str) -> None:
        """There is no model of this name."""
        self._served.pop(name, None)
        self._states.pop(name, None)

    def hide(self, name: str) -> Served | None:
        """Nothing new is taken for this model; what is under way goes on. `Served.client` is the caller's to close."""
        served = self._served.get(name)
        if served is not None:
            self._served[name] = None
        return served

    @property
    def names(self) -> list[str]:
        """Of all models that are known, loaded or not."""
        return list(self._served)

    @property
    def served(self) -> list[Served]:
        """Those that are loaded."""
        return [served for served in self._served.values() if served is not None]

    def of(self, name: str) -> Served | None:
        """The model of that name, if it is served."""
        return self._served.get(name)

    async def found(self, name: str, version: str = "") -> Served:
        """As `find`, for a call that begins: of a model that was reloaded, it sees the new version."""
        if (served := self._served.get(name)) is not None:
            await served.moved()
        return self.find(name, version)

    async def all_served(self) -> list[Served]:
        """As `served`, for a call that begins."""
        for served in self.served:
            await served.moved()
        return self.served

    def find(self, name: str, version: str = "") -> Served:
        """The model of that name.

        Raises:
            KserveError: there is none (NOT_FOUND).
        """
        served = self._served.get(name)
        versions = {} if served is None else {served.model.version: served.model}
        model_of({name: versions} if name in self._served else {}, name, version)
        assert served is not None
        return served

    async def ready(self) -> bool:
        """Whether every model that is loaded is ready."""
        if self.draining:
            return False
        return not any(await _all([served.why_not_ready() for served in self.served]))

    async def index(self) -> list[IndexEntry]:
        """Every model that is known."""
        entries = []
        await self.all_served()
        for name, served in tuple(self._served.items()):
            if served is None:
                state, reason = self._states.get(name, ("", ""))
                entries.append(IndexEntry(name, "1" if state else "", state, reason))
                continue
            why = await served.why_not_ready()
            version = "1" if why and not served.known else served.model.version
            entries.append(IndexEntry(name, version, "UNAVAILABLE" if why else "READY", why))
        return entries

    async def close(self) -> None:
        """Leave. What is under way fails."""
        for served in self.served:
            await served.client.close()
        self._served = dict.fromkeys(self._served)


async def _all(questions: list[Awaitable[str]]) -> list[str]:
    return list(await asyncio.gather(*questions))
