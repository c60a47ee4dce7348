from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.logs.entry import Entry
from pipeline.logs.log import OperatorLog
from pipeline.logs.settings import LogSettings

LEVELS = ("debug", "info", "note", "warning", "error", "critical")


def written(capfd: pytest.CaptureFixture[str], settings: LogSettings, *entries: Entry, **more: Any) -> list[str]:
    log = OperatorLog(settings, clock=lambda: 0.0, **more)
    for entry in entries:
        log.take(entry)
    log.close()
    return capfd.readouterr().err.splitlines()


@pytest.mark.parametrize("form", ["", "text", "json"])
@pytest.mark.parametrize("level", ["", "debug", "info", "warning", "error"])
def test_each_level_and_format_writes_what_is_grave_enough(
    capfd: pytest.CaptureFixture[str], form: str, level: str
) -> None:
    entries = [Entry(each, f"of {each}", "supervisor") for each in LEVELS]
    lines = written(capfd, LogSettings(form, level), *entries, pipeline="detect")
    expected = list(LEVELS[LEVELS.index(level or "info") :])
    if form == "json":
        found = [json.loads(line) for line in lines]
        assert [each["level"] for each in found] == expected
        assert {each["time"] for each in found} == {"1970-01-01T00:00:00.000Z"}
    else:
        time = "1970-01-01T00:00:00.000Z " if form else ""
        assert lines == [f"{time}{each}: of {each}" for each in expected]


def test_a_run_of_files_shows_less_unless_it_is_told_to(capfd: pytest.CaptureFixture[str]) -> None:
    entry = Entry("info", "ready", "supervisor")
    assert written(capfd, LogSettings(), entry, least="note") == []
    assert written(capfd, LogSettings(level="info"), entry, least="note") == ["info: ready"]


def test_what_was_printed_logged_by_a_stage_or_has_its_form_is_written_at_any_level(
    capfd: pytest.CaptureFixture[str],
) -> None:
    printed = Entry("info", "printed", "detect/0", printed=True)
    logged = Entry("debug", "logged", "detect/0", logger="app")
    lines = written(capfd, LogSettings(level="error"), printed, logged, Entry("info", "as it is", raw=True))
    assert lines == ["detect/0 | printed", "detect/0 | DEBUG app: logged", "as it is"]


def test_a_file_has_times_and_stderr_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.log"
    log = OperatorLog(LogSettings(file=str(path)), clock=lambda: 0.0)
    log("info", "one")
    path.rename(tmp_path / "b.log")
    log.reopen()
    log("info", "two")
    log.close()
    assert (tmp_path / "b.log").read_text() == "1970-01-01T00:00:00.000Z info: one\n"
    assert path.read_text() == "1970-01-01T00:00:00.000Z info: two\n"
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_opened_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--log-file /.*/no/a.log: expected a file .* No such file or directory"):
        OperatorLog(LogSettings(file=str(tmp_path / "no" / "a.log")))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", ["detect | info: ready", 'detect | {"a": 1}']),
        ("json", ["info: ready", '{"a": 1}']),
    ],
)
def test_lines_of_a_run_are_passed_on_in_the_form_of_the_log(
    capfd: pytest.CaptureFixture[str], form: str, expected: list[str]
) -> None:
    log = OperatorLog(LogSettings(form), process="serve")
    log.pass_on("detect", ["info: ready", '{"a": 1}'])
    log.close()
    first, second = capfd.readouterr().err.splitlines()
    if form == "json":
        found = json.loads(first)
        first = found["message"]
        assert (found["pipeline"], found["printed"]) == ("detect", True)
    assert [first, second] == expected


def test_a_run_that_is_passed_on_is_started_with_the_same_form_and_level_and_no_file() -> None:
    assert LogSettings().arguments() == []
    assert LogSettings("text", file="/a").arguments() == []
    assert LogSettings("json", "debug", "/a", access=True).arguments() == [
        "--log-format", "json", "--log-level", "debug", "--access-log",
    ]  # fmt: skip


def test_a_terminal_has_colours_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr("pipeline.logs.outlet.Outlet.is_terminal", True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    entries = [Entry("error", "bad", "supervisor"), Entry("info", "fine", "supervisor"), Entry("note", "wait", "serve")]
    assert written(capfd, LogSettings(), *entries) == ["\x1b[31merror: bad\x1b[0m", "info: fine", "", "note: wait"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(capfd, LogSettings(), entries[0]) == ["error: bad"]
