"""The log that a run keeps: private, bounded, and no reason to fail."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import StartError
from pipeline.logs.complaints import COMPLAINTS
from pipeline.logs.entry import Entry
from pipeline.logs.log import OperatorLog
from pipeline.logs.settings import LogSettings
from pipeline.supervisor import run_log
from pipeline.supervisor.run_log import LogFile, RunLog, log_path, logged_runs

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "trtlab" / "logs"


@pytest.fixture
def log() -> Iterator[RunLog]:
    with RunLog(OperatorLog()) as log:
        yield log


def lines_of(path: Path | None) -> list[str]:
    assert path is not None
    lines = path.read_text().splitlines()
    assert all(TIME.match(line) for line in lines)
    return [TIME.sub("", line) for line in lines]


def test_what_is_shown_is_kept_with_the_time_for_this_user_alone(
    home: Path, log: RunLog, capfd: pytest.CaptureFixture[str]
) -> None:
    log("info", "before there is a file")
    log.open("detect-7")
    log("warning", "resize/0 died")
    log.pass_on(Entry("info", "printed", "resize/0", printed=True))
    log.pass_on(Entry("info", "a request", "access", raw=True))
    log("debug", "not kept")
    assert log.ended(1) == 1
    assert capfd.readouterr().err.splitlines() == [
        "info: before there is a file", "warning: resize/0 died", "resize/0 | printed", "a request",
        "info: ended with exit code 1",
    ]  # fmt: skip
    assert log.log.run == "detect-7"
    path = home / "detect-7.log"
    assert path == log_path("detect-7")
    assert lines_of(path) == [
        f"info: began as process {os.getpid()}", "warning: resize/0 died", "resize/0 | printed",
        "info: ended with exit code 1",
    ]  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_why_it_could_not_start_is_kept() -> None:
    log = RunLog(OperatorLog())
    log.open("detect-7")
    with pytest.raises(StartError), log:
        raise StartError("too little memory")
    assert lines_of(log_path("detect-7"))[-1] == "error: too little memory"


def test_of_a_run_of_files_less_is_shown_than_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with RunLog(OperatorLog(least="note")) as log:
        log.open("detect-7")
        log("info", "ready")
        log("note", "finishing")
    assert capfd.readouterr().err == "note: finishing\n"
    assert lines_of(log_path("detect-7"))[1:] == ["info: ready", "note: finishing"]


def test_a_phase_is_told_when_it_begins() -> None:
    with RunLog(OperatorLog()) as log:
        log.open("detect-7")
        for phase in ("starting", "running", "draining", "draining", "stopping", "stopped"):
            log.phase(phase)
    assert [line.partition(",")[0] for line in lines_of(log_path("detect-7"))[1:]] == [
        "note: draining: what is under way is finished", "info: stopping",
    ]  # fmt: skip


def test_a_full_file_becomes_the_one_before_and_the_one_before_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    file = LogFile(path, bound=200)
    for number in range(9):
        file.write(f"{number} {'x' * 40}")
    file.close()
    numbers = [line.split()[0] for each in (path.with_name("a.log.1"), path) for line in lines_of(each)]
    assert numbers == ["info:", "3", "4", "5", "info:", "6", "7", "8"]
    assert sorted(os.listdir(tmp_path)) == ["a.log", "a.log.1"]


def test_the_log_of_an_earlier_run_with_this_id_is_the_file_before(tmp_path: Path) -> None:
    for life in ("first", "second"):
        file = LogFile(tmp_path / "a-1.log")
        file.write(life)
        file.close()
    assert lines_of(tmp_path / "a-1.log.1") == ["first"]
    assert lines_of(tmp_path / "a-1.log") == ["second"]


def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logs" / "a.log")
    file.write("one")
    file.path.unlink()
    file.path.parent.rmdir()
    file.write("two")
    file.close()
    assert lines_of(file.path) == ["info: 1 lines came before this one", "two"]


def test_a_file_that_was_moved_away_and_is_full_there_is_made_again(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "a.log", bound=10)
    file.write("one")
    file.path.rename(tmp_path / "elsewhere")
    file.write("two")
    file.write("three")
    file.close()
    assert file.lost == 0
    assert lines_of(file.path.with_name("a.log.1")) == ["info: 1 lines came before this one", "two"]
    assert lines_of(file.path) == ["info: 2 lines came before this one", "three"]


def test_lines_that_find_no_room_are_counted_and_none_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LogFile(tmp_path / "a.log")
    file.write("one")
    write = os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(run_log.os, "write", half)
        file.write("two")
        file.write("three")
    file.write("four")
    file.close()
    missing = "warning: 2 lines are missing here: they could not be written"
    assert lines_of(file.path) == ["one", missing, "four"]


def test_a_link_in_place_of_the_file_is_not_written_to(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "a.log")
    file.path.unlink()
    (tmp_path / "other").touch()
    file.path.symlink_to(tmp_path / "other")
    file.write("one")
    file.close()
    assert (tmp_path / "other").read_text() == ""


def test_a_run_goes_on_if_there_is_no_place_for_its_log(home: Path, log: RunLog, capfd: pytest.CaptureFixture[str]) -> None:
    home.parent.mkdir(parents=True)
    home.touch()
    log.open("detect-7")
    log("info", "ready")
    shown = capfd.readouterr().err.splitlines()
    assert shown == [f"info: no log is kept: {home}/detect-7.log: Not a directory", "info: ready"]


def test_a_user_without_a_home_folder_keeps_none(
    log: RunLog, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "nowhere")
    log.open("detect-7")
    log("info", "ready")
    shown = capfd.readouterr().err.splitlines()
    assert (shown, log_path("detect-7"), logged_runs("detect")) == (["info: ready"], None, [])


def test_the_last_five_runs_of_a_pipeline_that_have_ended_are_kept_and_every_one_that_lives(
    home: Path, log: RunLog
) -> None:
    home.mkdir(parents=True)
    living = LogFile(home / "detect-50.log")
    now = time.time()
    for age, name in enumerate([*(f"detect-{number}" for number in range(1, 9)), "detect-50", "other-1"]):
        for suffix in (".log", ".log.1"):
            path = home / f"{name}{suffix}"
            path.touch()
            os.utime(path, (now - 100 - age, now - 100 - age))
    log.open("detect-99")
    assert logged_runs("detect") == ["detect-99", *(f"detect-{number}" for number in range(1, 6)), "detect-50"]
    assert logged_runs("other") == ["other-1"]
    assert not (home / "detect-6.log.1").exists()
    assert (home / "detect-5.log.1").exists()
    living.close()


def test_a_run_that_ended_a_month_ago_is_forgotten(home: Path, log: RunLog) -> None:
    home.mkdir(parents=True)
    for name, days in (("other-1", 29), ("other-2", 31)):
        path = home / f"{name}.log"
        path.touch()
        os.utime(path, (time.time() - days * 86_400,) * 2)
    log.open("detect-7")
    assert logged_runs("other") == ["other-1"]


def test_what_another_log_lost_is_counted_and_the_run_s_log_says_why(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    full = OperatorLog(LogSettings(file="/dev/full"))
    with closing(full), RunLog(full) as log:
        log.open("detect-7")
        log("warning", "resize/0 died")
        log("info", "ready")
        assert log.lost_lines == 2
    why = "error: nothing can be written to the log /dev/full: No space left on device; the run goes on without it"
    assert lines_of(log_path("detect-7"))[1:] == [why, "warning: resize/0 died", "info: ready"]
    assert capfd.readouterr().err == f"{why}\n"


def test_a_log_that_has_lost_nothing_counts_none(log: RunLog) -> None:
    log.open("detect-7")
    log("info", "ready")
    assert log.lost_lines == 0


def test_messages_that_are_refused_do_not_fill_the_log(home: Path, log: RunLog) -> None:
    log.open("detect-7")
    for _ in range(100):
        log.refused("refused a message: garbage")
    assert len(lines_of(log_path("detect-7"))) == 1 + COMPLAINTS + 1
