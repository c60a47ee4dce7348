"""Calls: what every call beside inference answers, as documents; each front says them in its own form."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from pipeline.errors import KserveError
from pipeline.kserve.documents import (
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    statistics,
)
from pipeline.kserve.settings import RegionEntry, changed_log
from pipeline.metrics.traffic import Traffic
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.counts import Counts
from pipeline.serving.frames import Count, Load, Look, Register, SetLog, Settled, SetTrace, Unload, Unregister, Wish
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings
from pipeline.serving.truth import checked_trace

__all__ = ["Calls", "Control"]


class Control(Protocol):
    """The keeper, which has what clients can change."""

    async def ask(self, wish: Wish) -> Settled:
        """Have a wish fulfilled: once this returns, every gateway shows it.

        Raises:
            KserveError: it is refused.
        """


class Calls:
    """The calls, by the names that `endpoints.ENDPOINTS` gives them."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, regions: Regions, control: Control, journal: Journal
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._regions = regions
        self._control = control
        self._journal = journal

    # -- the server -----------------------------------------------------------------------------

    async def server_ready(self) -> bool:
        """Whether every model is."""
        return await self._catalogue.ready()

    def server_metadata(self) -> dict[str, Any]:
        from importlib import metadata  # parsers of mail and of archives, which no start should wait for

        return server_metadata("trtlab", metadata.version("trtlab"), bool(self._settings.shared_memory))

    # -- models ---------------------------------------------------------------------------------

    async def why_not_ready(self, name: str, version: str) -> str:
        """Why a model is not ready; empty: it is."""
        try:
            served = await self._catalogue.found(name, version)
        except KserveError as error:
            return str(error)
        return "the server is stopping" if self._catalogue.draining else await served.why_not_ready()

    async def model_metadata(self, name: str, version: str) -> dict[str, Any]:
        return model_metadata((await self._catalogue.found(name, version)).model)

    async def model_config(self, name: str, version: str) -> dict[str, Any]:
        return model_config((await self._catalogue.found(name, version)).model)

    async def statistics(self, name: str, version: str) -> dict[str, Any]:
        """Of one model, or of all if the name is empty: of all gateways together.

        Raises:
            KserveError: there is none of that name (INVALID_ARGUMENT, as Triton says here).
        """
        try:
            served = [await self._catalogue.found(name, version)] if name else await self._catalogue.all_served()
        except KserveError as error:
            raise KserveError(str(error)) from None
        counts = (await self._ask(Count())).counts
        return statistics(
            [counts.get(each.name, Counts()).document(each.name, each.model.version) for each in served if each.known]
        )

    async def traffic(self) -> Traffic:
        """What all gateways have done together."""
        return (await self._ask(Count())).traffic or Traffic()

    # -- the repository -------------------------------------------------------------------------

    async def index(self, ready: bool) -> list[dict[str, str]]:
        if self._settings.repository:
            # There may be other files by now.
            await self._ask(Look())
        return repository_index(await self._catalogue.index(), ready)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load a model, or reload it.

        Raises:
            KserveError: there is no such one, or it did not start (INTERNAL, as Triton says); parameters that would
                bring a config or a file, or another program has started it (PERMISSION_DENIED).
        """
        for key in parameters:
            if key == "config" or key.startswith("file:"):
                raise KserveError(
                    f"parameter {key[:100]!r}: a config is code that runs here, so none is taken over the network",
                    "PERMISSION_DENIED",
                )
        await self._ask(Load(name))

    async def unload(self, name: str) -> None:
        """Unload a model. An unknown one, or one that is unloaded already, is no error.

        Raises:
            KserveError: another program has started it (PERMISSION_DENIED).
        """
        await self._ask(Unload(name))

    async def _ask(self, wish: Wish) -> Settled:
        # It goes on if the caller hangs up.
        return await asyncio.shield(asyncio.ensure_future(self._control.ask(wish)))

    # -- shared memory --------------------------------------------------------------------------

    def region_status(self, name: str) -> list[RegionEntry]:
        return self._regions.status(name)

    async def region_register(self, name: str, key: str, offset: int, nbytes: int) -> None:
        if nbytes >= 2**63:
            raise KserveError(f"'byte_size': expected less than 2**63, found {nbytes}")
        if offset >= 2**63:
            raise KserveError(f"'offset': expected less than 2**63, found {offset}")
        await self._ask(Register(name, key, offset, nbytes))

    async def region_unregister(self, name: str) -> None:
        await self._ask(Unregister(name))

    def cuda_status(self, name: str) -> list[RegionEntry]:
        """There are no regions of CUDA's.

        Raises:
            KserveError: one is asked for (NOT_FOUND).
        """
        if name:
            raise KserveError(f"Unable to find cuda shared memory region: {name[:200]!r}", "NOT_FOUND")
        return []

    def cuda_register(self) -> NoReturn:
        """Always refused."""
        raise KserveError(
            "this server has no CUDA shared memory: send tensors, or use system shared memory", "UNIMPLEMENTED"
        )

    # -- settings -------------------------------------------------------------------------------

    async def trace(self, model: str, change: Mapping[str, Any]) -> dict[str, str | list[str]]:
        """The trace settings after a change.

        Raises:
            KserveError: no such model or setting; or tracing is asked for (UNIMPLEMENTED).
        """
        if model:
            self._catalogue.find(model)
        # First here: what is no setting need not go to the keeper, which asks the same of it.
        checked_trace(self._journal.trace, change)
        if change:
            await self._ask(SetTrace(dict(change)))
        return dict(self._journal.trace)

    async def log(self, change: Mapping[str, Any]) -> dict[str, bool | int | str]:
        """The log settings after a change.

        Raises:
            KserveError: no such setting, or a value that it cannot have.
        """
        changed_log(self._journal.settings, change)
        if change:
            await self._ask(SetLog(dict(change)))
        return dict(self._journal.settings)
