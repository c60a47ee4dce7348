"""Which client a manager gives for a name, while other threads load and unload models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import ClientMisuse
from pipeline.repository.models import Models


class _Manager(Models):
    """Its models are anything."""

    def __init__(self, **models: object) -> None:
        super().__init__("me")
        self.models = models

    def _place(self, name: str) -> Any:
        if name not in self.models:
            raise ClientMisuse(f"no model {name}")
        return self.models[name]

    def get_models(self) -> list[str]:
        return list(self.models)

    def status(self) -> dict[str, dict[str, Any]]:
        return {}

    def load(self, config: Any, name: str | None = None) -> str:
        raise NotImplementedError

    unload = reload = load  # type: ignore[assignment]

    def _places(self) -> dict[str, Any]:
        return {}

    _configs = _places

    def _shown(self) -> Any:
        return []

    def stop(self) -> None:
        self._close("this manager was stopped")


class _Client:
    def __init__(self, place: object) -> None:
        self.place = place
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[_Client]]:
    """From now on each connection is one of these, and what is given happens while the first is made."""

    def connected(meanwhile: Callable[[], None]) -> list[_Client]:
        made: list[_Client] = []

        def connect(place: object, **_: Any) -> _Client:
            made.append(client := _Client(place))
            if len(made) == 1:
                meanwhile()
            return client

        monkeypatch.setattr("pipeline.repository.models.SharedClient.connect", connect)
        return made

    return connected


def test_a_client_of_a_model_that_was_unloaded_meanwhile_is_not_that_of_the_next_of_its_name(connected: Any) -> None:
    manager = _Manager(mnist="the old one")
    made = connected(lambda: manager.models.update(mnist="the new one"))
    runner = manager.infer_runner("mnist")
    assert [client.place for client in made] == ["the old one", "the new one"]
    assert [client.closed for client in made] == [True, False]
    assert runner._client is manager.infer_runner("mnist")._client is made[1]


def test_a_client_of_a_model_that_was_unloaded_meanwhile_is_closed(connected: Any) -> None:
    manager = _Manager(mnist="the old one")
    made = connected(manager.models.clear)
    with pytest.raises(ClientMisuse, match="no model mnist"):
        manager.infer_runner("mnist")
    assert made[0].closed
    assert not manager._clients


def test_a_client_that_is_made_while_the_manager_stops_is_closed(connected: Any) -> None:
    manager = _Manager(mnist="it")
    made = connected(manager.stop)
    with pytest.raises(ClientMisuse, match="was stopped"):
        manager.infer_runner("mnist")
    assert made[0].closed


def test_threads_that_ask_for_one_model_at_one_time_share_a_client(connected: Any) -> None:
    manager = _Manager(mnist="it")
    made = connected(lambda: manager.infer_runner("mnist"))
    runner = manager.infer_runner("mnist")
    assert [client.closed for client in made] == [True, False]
    assert runner._client is made[1]
