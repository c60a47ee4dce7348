"""What the calls beside inference answer where there is no model, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.settings import changed_log, changed_trace
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.frames import Load, Look, Register, SetLog, Settled, SetTrace, Unload, Unregister, Wish
from pipeline.serving.journal import Journal
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings


class Control:
    """Fulfils nothing, but what it would have told this gateway."""

    def __init__(self, journal: Journal) -> None:
        self.wishes: list[Wish] = []
        self.journal = journal

    async def ask(self, wish: Wish) -> Settled:
        self.wishes.append(wish)
        if isinstance(wish, SetLog):
            self.journal.settings = changed_log(self.journal.settings, wish.change)
        elif isinstance(wish, SetTrace):
            self.journal.trace = changed_trace(self.journal.trace, wish.change)
        return Settled(0)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def control(journal: Journal) -> Control:
    return Control(journal)


@pytest.fixture
def calls(control: Control, journal: Journal) -> Calls:
    catalogue = Catalogue(1)
    catalogue.know("mine", "unloaded")
    catalogue.know("theirs")
    return Calls(Settings(), catalogue, Regions(()), control, journal)


def refused(call: Any) -> str:
    with pytest.raises(KserveError) as error:
        asyncio.run(call)
    return error.value.code


def test_what_changes_something_is_for_the_keeper(calls: Calls, control: Control) -> None:
    asyncio.run(calls.load("mine", {"other": 1}))
    asyncio.run(calls.unload("mine"))
    asyncio.run(calls.region_register("r", "/key", 1, 2))
    asyncio.run(calls.region_unregister(""))
    assert control.wishes == [Load("mine"), Unload("mine"), Register("r", "/key", 1, 2), Unregister("")]


def test_a_number_that_no_frame_has_room_for_is_refused(calls: Calls, control: Control) -> None:
    assert refused(calls.region_register("r", "/key", 2**63, 2)) == "INVALID_ARGUMENT"
    assert refused(calls.region_register("r", "/key", 0, 2**64 - 1)) == "INVALID_ARGUMENT"
    assert control.wishes == []


def test_the_repository_is_looked_at_for_an_index_if_there_is_one(control: Control) -> None:
    for repository, wishes in ((False, []), (True, [Look()])):
        settings = Settings(repository=repository)
        asyncio.run(Calls(settings, Catalogue(1), Regions(()), control, Journal()).index(False))
        assert control.wishes == wishes


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx"])
def test_no_config_and_no_file_is_taken(calls: Calls, control: Control, parameter: str) -> None:
    assert refused(calls.load("mine", {parameter: "x"})) == "PERMISSION_DENIED"
    assert control.wishes == []


def test_a_model_that_was_unloaded_says_so_and_one_that_never_was_has_its_name_only(calls: Calls) -> None:
    assert asyncio.run(calls.index(False)) == [
        {"name": "mine", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "theirs"},
    ]
    assert asyncio.run(calls.index(True)) == []
    assert "no available versions" in asyncio.run(calls.why_not_ready("mine", ""))


def test_the_server_is_not_ready_while_it_stops() -> None:
    catalogue = Catalogue(1)
    assert asyncio.run(catalogue.ready())
    catalogue.draining = True
    assert not asyncio.run(catalogue.ready())


def test_shared_memory_is_an_extension_only_if_it_is_open(control: Control) -> None:
    def extensions(settings: Settings) -> list[str]:
        document = Calls(settings, Catalogue(1), Regions(()), control, Journal()).server_metadata()
        found: list[str] = document["extensions"]
        return found

    assert "system_shared_memory" not in extensions(Settings())
    assert "system_shared_memory" in extensions(Settings(shared_memory=("/x",)))


def test_tracing_is_refused_since_nothing_would_be_traced(calls: Calls, control: Control) -> None:
    assert refused(calls.trace("", {"trace_level": ["TIMESTAMPS"]})) == "UNIMPLEMENTED"
    assert asyncio.run(calls.trace("", {}))["trace_level"] == ["OFF"]
    assert control.wishes == []
    assert asyncio.run(calls.trace("", {"trace_rate": "5"}))["trace_rate"] == "5"
    assert asyncio.run(calls.trace("", {}))["trace_rate"] == "5"


def test_trace_settings_of_an_unknown_model_are_not_found(calls: Calls) -> None:
    assert refused(calls.trace("nope", {})) == "NOT_FOUND"


def test_log_settings_hold_for_what_is_printed(
    calls: Calls, journal: Journal, control: Control, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.request("GET /v2", 200, 0)
    assert capsys.readouterr().err == ""
    assert refused(calls.log({"log_verbose_level": "1"})) == "INVALID_ARGUMENT"
    assert asyncio.run(calls.log({}))["log_verbose_level"] == 0
    assert control.wishes == []
    assert asyncio.run(calls.log({"log_verbose_level": 1}))["log_verbose_level"] == 1
    journal.request("GET /v2", 200, 0)
    assert "GET /v2: 200" in capsys.readouterr().err
    journal.fault("x", ValueError("what it was"))
    assert "what it was" in capsys.readouterr().err
    asyncio.run(calls.log({"log_error": False}))
    journal.fault("x", ValueError("what it was"))
    assert capsys.readouterr().err == ""
