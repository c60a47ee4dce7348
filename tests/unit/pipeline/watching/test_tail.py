"""The lines of a log that grows, and that becomes its own predecessor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.supervisor.run_log import LogFile
from pipeline.watching.tail import Tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "detect-7.log"
    path.write_text("one\ntwo\n")
    return path


@pytest.fixture
def tail(path: Path) -> Iterator[Tail]:
    tail = Tail(path)
    yield tail
    tail.close()


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def turn_over(path: Path) -> None:
    path.rename(path.with_name(path.name + ".1"))


def test_lines_come_once_and_only_when_they_are_complete(path: Path, tail: Tail) -> None:
    assert list(tail.read()) == ["one", "two"]
    add(path, "three\nfo")
    assert list(tail.read()) == ["three"]
    add(path, "ur\n")
    assert list(tail.read()) == ["four"]
    assert list(tail.read()) == []


def test_what_is_there_can_be_left_out(path: Path, tail: Tail) -> None:
    tail.skip()
    add(path, "three\n")
    assert list(tail.read()) == ["three"]


def test_no_line_is_missing_when_the_files_change(path: Path, tail: Tail) -> None:
    tail.skip()
    add(path, "three\n")
    turn_over(path)
    assert list(tail.read()) == ["three"]
    path.write_text("four\n")
    assert list(tail.read()) == ["four"]
    turn_over(path)
    path.write_text("five\n")
    assert list(tail.read()) == ["five"]


def test_the_lines_before_are_those_of_the_other_file(path: Path, tail: Tail) -> None:
    assert list(tail.earlier()) == []
    path.with_name(path.name + ".1").write_text("minus one\nzero\n")
    assert list(tail.earlier()) == ["minus one", "zero"]


def test_a_file_that_has_become_the_one_before_is_read_once(path: Path, tail: Tail) -> None:
    turn_over(path)
    path.write_text("three\n")
    assert [*tail.earlier(), *tail.read()] == ["one", "two", "three"]


def test_a_file_may_come_later(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "later.log")
    assert list(tail.read()) == []
    (tmp_path / "later.log").write_text("one\n")
    assert list(tail.read()) == ["one"]
    tail.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    """The log of a run, in files of a line each."""
    log = LogFile(tmp_path / "detect-8.log", bound=1)
    yield log
    log.close()


def told(tail: Tail) -> list[str]:
    """Its lines, without their times."""
    return [line.partition(" ")[2] for line in tail.read()]


def test_a_log_that_has_changed_its_files_twice_since_the_last_look_is_followed_without_a_gap(log: LogFile) -> None:
    log.write("one")
    tail = Tail(log.path)
    assert told(tail) == ["one"]
    log.write("two")
    log.write("three")
    assert told(tail) == ["two", "three"]
    # In the middle of a look as well.
    log.write("four")
    log.write("five")
    lines = tail.read()
    assert next(lines).endswith("four")
    log.write("six")
    assert [line.partition(" ")[2] for line in lines] == ["five", "six"]
    tail.close()


def test_lines_that_were_overwritten_before_they_were_read_are_told_in_their_place(log: LogFile) -> None:
    log.write("one")
    tail = Tail(log.path)
    assert told(tail) == ["one"]
    for number in range(2, 8):
        log.write(f"{number}\nagain {number}")
    missing = "warning: 8 lines are missing here: they were overwritten before they were read"
    assert told(tail) == [missing, "6", "6", "7", "7"]
    log.write("eight")
    assert told(tail) == ["eight"]
    tail.close()


def test_what_was_left_out_by_intention_is_not_missing(log: LogFile) -> None:
    log.write("one")
    log.write("two")
    tail = Tail(log.path)
    tail.skip()
    log.write("three")
    assert told(tail) == ["three"]
    log.write("four")
    log.write("five")
    assert told(tail) == ["four", "five"]
    tail.close()


def test_the_count_at_the_beginning_of_a_file_is_not_shown(log: LogFile) -> None:
    for text in ("one", "two", "three"):
        log.write(text)
    assert "lines came before this one" in log.path.read_text()
    tail = Tail(log.path)
    assert [line.partition(" ")[2] for line in [*tail.earlier(), *tail.read()]] == ["two", "three"]
    tail.close()


def test_a_file_that_was_removed_is_no_gap(log: LogFile) -> None:
    log.write("one")
    log.write("two")
    tail = Tail(log.path)
    assert told(tail) == ["two"]
    log.path.unlink()
    log.write("three")
    assert told(tail) == ["three"]
    tail.close()
