"""The lines of a log that grows, and that becomes its own predecessor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
