from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.logs.entry import Entry
from pipeline.logs.telling import set_least, tell, tell_entry
from tests.entries import entries_of


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    yield
    set_least("info")


def test_what_a_child_says_is_on_its_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    tell("error", "broken", traceback="where")
    tell_entry(Entry("info", "and this", stage="detect"))
    assert entries_of(capsys.readouterr().err) == [
        Entry("error", "broken", traceback="where"), Entry("info", "and this", stage="detect"),
    ]  # fmt: skip


def test_nothing_is_said_below_the_level_but_what_a_stage_logs(capsys: pytest.CaptureFixture[str]) -> None:
    tell("debug", "not now")
    set_least("error")
    tell("warning", "not now")
    tell_entry(Entry("debug", "logged", logger="app"))
    tell("error", "broken")
    assert [entry.text for entry in entries_of(capsys.readouterr().err)] == ["logged", "broken"]
