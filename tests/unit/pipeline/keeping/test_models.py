"""What the gateways are told of models whose pipelines are reloaded, die, and are started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StartError, Unavailable
from pipeline.keeping import models
from pipeline.keeping.models import KeptModels
from pipeline.logs.log import OperatorLog
from pipeline.serving.frames import ModelTold


class Manager:
    """Runs that a test ends, and that start as it says."""

    def __init__(self) -> None:
        self.runs = 0
        self.dead = False
        self.drain = 10.0
        self.read: list[str] = []
        self.fails = ""

    def place(self, name: str) -> Callable[[], Path]:
        def where() -> Path:
            if self.dead:
                raise Unavailable(f"the run of {name!r} has died (killed by signal 9 (SIGKILL)); reload it")
            return Path(f"/run/{name}-{self.runs}")

        return where

    def load(self, path: str, name: str, *, assignments: Any) -> None:
        self.dead, self.runs = False, self.runs + 1

    def reload(self, name: str, path: str, *, assignments: Any) -> None:
        self.read.append(path)
        if self.fails:
            raise StartError(self.fails)
        if self.dead:
            self.dead, self.runs = False, self.runs + 1

    def unload(self, name: str) -> None:
        self.dead = True

    def drain_s(self, name: str) -> float:
        return self.drain


class Kept:
    """The models of a keeper with one config, and what it has told and said."""

    def __init__(self, running: tuple[str, ...] = ()) -> None:
        self.manager = Manager()
        self.told: list[ModelTold] = []
        self.said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "_Manager", lambda log: self.manager)
            self.models = KeptModels(
                {} if running else {"m": "/m.yaml"}, dict.fromkeys(running, "/runs/theirs-7"), None, None, (),
                tell=self._tell, forget=self._forget, say=self.said.append, log=OperatorLog(),
            )  # fmt: skip

    async def _tell(self, told: ModelTold) -> None:
        self.told.append(told)

    async def _forget(self, name: str) -> None:
        raise AssertionError(name)

    async def look_after(self, now: float) -> None:
        await asyncio.gather(*self.models.look_after(now))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Kept], Coroutine[Any, Any, None]]], None]:
    monkeypatch.setattr(models, "check", lambda place: None)

    def run(main: Callable[[Kept], Coroutine[Any, Any, None]]) -> None:
        async def begun() -> None:
            kept = Kept()
            await kept.models.start()
            assert kept.told[-1] == ModelTold(0, "m", "/run/m-1", 1)
            kept.told.clear()
            await asyncio.wait_for(main(kept), 30)

        asyncio.run(begun())

    return run


def test_a_reload_is_told_to_the_gateways_though_it_is_in_the_same_place(run: Any) -> None:
    async def main(kept: Kept) -> None:
        kept.manager.drain = 3.0
        await kept.models.load("m")
        # Only so can each of them say that it is connected to the new version.
        assert kept.told == [ModelTold(0, "m", "/run/m-1", 1)]
        assert kept.said == ["info: m: a new version serves"]
        # What the run says, and not what the file says by now: there is none.
        assert kept.models.drain_s == 3.0

    run(main)


def test_a_pipeline_that_dies_is_told_with_its_reason_and_started_again(run: Any) -> None:
    async def main(kept: Kept) -> None:
        await kept.look_after(100.0)
        assert (kept.told, kept.said) == ([], [])
        kept.manager.dead = True
        await kept.look_after(101.0)
        why = "the run of 'm' has died (killed by signal 9 (SIGKILL))"
        assert kept.told == [
            ModelTold(0, "m", "/run/m-1", 1, why=f"{why}; it is started again"), ModelTold(0, "m", "/run/m-2", 1)
        ]  # fmt: skip
        assert kept.said == [f"error: {why}; it is started again", "info: m: started anew"]
        kept.told.clear()
        await kept.look_after(102.0)
        assert kept.told == []
        # Another death is told like the first one.
        kept.manager.dead = True
        await kept.look_after(103.0)
        assert [each.why for each in kept.told] == [f"{why}; it is started again"]

    run(main)


def test_a_pipeline_that_does_not_start_again_is_told_with_its_reason_and_tried_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(kept: Kept) -> None:
        monkeypatch.setattr(models.time, "monotonic", lambda: 101.0)
        kept.manager.dead, kept.manager.fails = True, "no memory"
        await kept.look_after(101.0)
        assert kept.told[-1].place == "/run/m-1"
        assert "could not be started again: no memory" in kept.told[-1].why
        await kept.look_after(101.05)
        assert kept.manager.read == ["/m.yaml"]
        kept.manager.fails = ""
        await kept.look_after(101.1)
        assert kept.told[-1] == ModelTold(0, "m", "/run/m-2", 1)

    run(main)


def test_one_that_a_client_has_loaded_or_unloaded_meanwhile_is_not_started_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loaded(kept: Kept) -> None:
        kept.manager.dead = True
        work = kept.models.look_after(101.0)
        await kept.models.load("m")
        await asyncio.gather(*work)
        assert kept.manager.runs == 2
        assert [each.why for each in kept.told] == [""]

    async def unloaded(kept: Kept) -> None:
        kept.manager.dead = True
        work = kept.models.look_after(101.0)
        await kept.models.unload("m")
        await asyncio.gather(*work)
        assert kept.manager.read == []
        await kept.look_after(200.0)
        assert kept.told[-1] == ModelTold(0, "m", state="UNAVAILABLE", why="unloaded")
        # Loaded once more, it is another one, whose first death is its first.
        await kept.models.load("m")
        kept.manager.dead = True
        await kept.look_after(201.0)
        assert kept.told[-1] == ModelTold(0, "m", "/run/m-3", 2)

    run(loaded)
    run(unloaded)


def test_a_pipeline_that_another_program_has_started_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(models, "check", checked.append)

    async def main() -> None:
        kept = Kept(running=("theirs",))
        await kept.models.start()
        assert checked == ["/runs/theirs-7"]
        assert [(told.name, told.place) for told in kept.told] == [("theirs", "/runs/theirs-7")]
        kept.manager.dead = True
        assert kept.models.look_after(101.0) == []

    asyncio.run(main())
