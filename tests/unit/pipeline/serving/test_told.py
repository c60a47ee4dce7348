"""When a gateway confirms what it is told of a model, and what calls see of one that is reloaded or has died."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.errors import ClientMisuse, Unavailable
from pipeline.metrics.traffic import Traffic
from pipeline.serving import catalogue as catalogue_module
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.frames import Confirmed, Frame, ModelTold
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.told import Told


class FakeClient:
    """A client whose moves a test decides."""

    def __init__(self, place: Any, name: str, pending: int) -> None:
        self.place = place
        self.waits: list[tuple[str, float]] = []
        self.moves = False
        self.there = asyncio.Event()
        self.closed = False
        self.outstanding = 0

    async def reconnect(self, timeout_s: float) -> None:
        self.waits.append(("reconnect", timeout_s))

    async def follow(self, timeout_s: float) -> None:
        self.waits.append(("follow", timeout_s))
        if self.closed:
            raise ClientMisuse("closed")
        try:
            await asyncio.wait_for(self.there.wait(), timeout_s)
        except asyncio.TimeoutError:
            raise Unavailable("it is not there") from None
        self.moves = False

    async def inquire(self, timeout_s: float) -> Any:
        raise Unavailable("no such run")

    async def close(self) -> None:
        self.closed = True


class Link:
    """What was said to the keeper."""

    def __init__(self) -> None:
        self.said: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.said.append(frame)


class Gateway:
    def __init__(self) -> None:
        self.catalogue = Catalogue(1)
        self.told = Told(self.catalogue, Regions(()), Journal(), Traffic())
        self.link = Link()
        link: Any = self.link
        self.told.begin(link, 1)

    async def take(self, frame: Frame) -> None:
        self.told.take(frame, None)
        await asyncio.sleep(0.01)

    @property
    def confirmed(self) -> list[int]:
        return [frame.revision for frame in self.link.said if isinstance(frame, Confirmed)]

    @property
    def client(self) -> FakeClient:
        client: Any = self.catalogue.served[0].client
        return client


Main = Callable[[Gateway], Coroutine[Any, Any, None]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Main], None]:
    monkeypatch.setattr(catalogue_module, "AsyncClient", FakeClient)

    def run(main: Main) -> None:
        async def begun() -> None:
            gateway = Gateway()
            await gateway.take(ModelTold(1, "m", "/run/m-1", 1))
            assert gateway.confirmed == [1]
            assert gateway.client.waits == [("reconnect", 5.0)]
            await asyncio.wait_for(main(gateway), 30)
            gateway.told._saying.cancel()

        asyncio.run(begun())

    return run


def test_a_reload_is_confirmed_once_the_client_is_connected_to_the_new_version(run: Callable[[Main], None]) -> None:
    async def main(gateway: Gateway) -> None:
        client = gateway.client
        await gateway.take(ModelTold(2, "m", "/run/m-1", 1))
        assert (gateway.confirmed, client.waits[-1]) == ([1], ("follow", 5.0))
        client.there.set()
        await asyncio.sleep(0.01)
        assert gateway.confirmed == [1, 2]
        # It is the same client: what it holds goes on.
        assert gateway.client is client

    run(main)


def test_a_pipeline_that_is_started_anew_is_looked_for_in_its_new_place(run: Callable[[Main], None]) -> None:
    async def main(gateway: Gateway) -> None:
        gateway.client.there.set()
        await gateway.take(ModelTold(2, "m", "/run/m-2", 1))
        assert str(gateway.client.place()) == "/run/m-2"
        assert gateway.confirmed == [1, 2]

    run(main)


def test_one_whose_pipeline_has_died_is_confirmed_at_once_and_says_why_until_it_is_back(
    run: Callable[[Main], None],
) -> None:
    async def main(gateway: Gateway) -> None:
        (served,) = gateway.catalogue.served
        assert await served.why_not_ready() == "no such run"
        await gateway.take(ModelTold(2, "m", "/run/m-1", 1, why="it was killed"))
        assert gateway.confirmed == [1, 2]
        assert ("follow", 5.0) not in gateway.client.waits
        assert await served.why_not_ready() == "it was killed"
        gateway.client.there.set()
        await gateway.take(ModelTold(3, "m", "/run/m-2", 1))
        assert await served.why_not_ready() == "no such run"
        # A gateway that is started meanwhile is told the same, and does not wait for it.
        another = Gateway()
        await another.take(ModelTold(0, "m", "/run/m-1", 1, why="it was killed"))
        assert another.client.waits == [("reconnect", 0.0)]
        assert await another.catalogue.served[0].why_not_ready() == "it was killed"
        another.told._saying.cancel()

    run(main)


def test_a_call_that_begins_while_its_client_is_on_its_way_waits_for_it_and_others_do_not(
    run: Callable[[Main], None],
) -> None:
    async def main(gateway: Gateway) -> None:
        client, (served,) = gateway.client, gateway.catalogue.served
        before = len(client.waits)
        await served.moved()
        assert await gateway.catalogue.all_served() == [served]
        assert len(client.waits) == before
        for waits in (served.moved, gateway.catalogue.all_served):
            client.moves = True
            client.there.clear()
            call = asyncio.ensure_future(waits())
            await asyncio.sleep(0.01)
            assert not call.done()
            client.there.set()
            await call
        # Not for ever, and a model that is unloaded meanwhile is no fault.
        client.moves = True
        client.there.clear()
        await served.moved()
        client.closed = True
        await served.moved()

    run(main)
