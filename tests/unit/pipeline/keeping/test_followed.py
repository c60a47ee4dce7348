"""The models of a manager that serves: what gateways are told as the manager's models come, move and go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.errors import KserveError, StartError, Unavailable
from pipeline.keeping.followed import FollowedModels
from pipeline.serving.boot import KeeperBoot, ModelPlace
from pipeline.serving.frames import ModelTold
from pipeline.serving.settings import Settings

MNIST = ModelPlace("/run/mnist-1", 30.0)


class Told:
    """What gateways were told, and what was said, in order."""

    def __init__(self, models: Mapping[str, ModelPlace]) -> None:
        self.found: list[Any] = []
        self.wrong: dict[str, Exception] = {}
        self._newer: Mapping[str, ModelPlace] | None = None
        self.models = FollowedModels(
            models, self._take, tell=self._tell, forget=self._forget, say=self.found.append, check=self._check
        )

    def _take(self) -> Mapping[str, ModelPlace] | None:
        newer, self._newer = self._newer, None
        return newer

    async def _tell(self, told: ModelTold) -> None:
        self.found.append(told)

    async def _forget(self, name: str) -> None:
        self.found.append(f"forget {name}")

    def _check(self, place: str) -> None:
        if place in self.wrong:
            raise self.wrong[place]

    def watched(self, newer: Mapping[str, ModelPlace] | None = None) -> list[Any]:
        """What it makes of what the manager has told."""
        self._newer, self.found[:] = newer, []
        asyncio.run(self.models.watch())
        return list(self.found)


def test_what_the_manager_has_is_shown_and_what_it_has_no_longer_is_drained_first() -> None:
    told = Told({"mnist": MNIST})
    asyncio.run(told.models.start())
    assert told.found == [ModelTold(0, "mnist", "/run/mnist-1", 1)]
    assert (told.models.wanted, told.models.described(), told.models.drain_s) == (["mnist"], "mnist", 30.0)
    assert told.watched() == [], "nothing is new"
    other = {"other": ModelPlace("other")}
    assert told.watched({"mnist": MNIST, **other}) == [ModelTold(0, "other", "other", 1)]
    assert told.watched(other) == [ModelTold(0, "mnist", state="UNLOADING", drain_s=30.0), "forget mnist"]
    # Its counts begin again.
    assert told.watched({"mnist": MNIST, **other}) == [ModelTold(0, "mnist", "/run/mnist-1", 2)]
    assert told.watched({}) == [
        ModelTold(0, "other", state="UNLOADING", drain_s=10.0), "forget other",
        ModelTold(0, "mnist", state="UNLOADING", drain_s=30.0), "forget mnist",
    ]  # fmt: skip
    assert told.models.described() == "no model yet"


def test_a_model_that_was_started_anew_has_moved_and_is_shown_though_it_is_away() -> None:
    told = Told({"mnist": MNIST})
    told.watched()
    told.wrong["/run/mnist-2"] = Unavailable("it starts")
    assert told.watched({"mnist": ModelPlace("/run/mnist-2")}) == [ModelTold(0, "mnist", "/run/mnist-2", 1)]


def test_what_cannot_be_served_is_said_once_and_tried_again() -> None:
    told = Told({"mnist": MNIST, "other": ModelPlace("other")})
    told.wrong["other"] = Unavailable("not ready")
    asyncio.run(told.models.start())
    said = "error: other is not served: not ready"
    assert told.found == [ModelTold(0, "mnist", "/run/mnist-1", 1), said]
    assert told.watched() == []
    told.wrong["other"] = KserveError("a tensor", "INVALID_ARGUMENT")
    assert told.watched() == ["error: other is not served: a tensor"]
    told.wrong.clear()
    assert told.watched() == [ModelTold(0, "other", "other", 1)]
    # One that went and is back is told of anew.
    told.wrong["third"] = Unavailable("not ready")
    third = {"third": ModelPlace("third")}
    assert "error: third is not served: not ready" in told.watched(third)
    assert told.watched({}) == []
    assert told.watched(third) == ["error: third is not served: not ready"]


def test_it_does_not_begin_if_none_of_its_models_can_be_served_but_it_does_without_any() -> None:
    told = Told({"mnist": MNIST})
    told.wrong["/run/mnist-1"] = KserveError("a tensor", "INVALID_ARGUMENT")
    with pytest.raises(StartError, match="mnist cannot be served: a tensor"):
        asyncio.run(told.models.start())
    asyncio.run(Told({}).models.start())


def test_callers_neither_load_nor_unload() -> None:
    models = Told({"mnist": MNIST}).models
    for call in (models.load, models.unload):
        with pytest.raises(KserveError, match="alone loads and unloads them") as refused:
            asyncio.run(call("mnist"))
        assert refused.value.code == "PERMISSION_DENIED"


def test_its_boot_document_comes_back_as_it_was() -> None:
    boot = KeeperBoot(Settings(token="secret", hosts=("a",)), {"mnist": MNIST})
    line = boot.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert KeeperBoot.read(line) == boot
