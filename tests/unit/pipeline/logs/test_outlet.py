"""Where a log leaves the process: a slow reader and a full disk hold nothing up, and nothing is lost untold."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.logs import outlet as module
from pipeline.logs.outlet import Outlet


def missing(count: int) -> str:
    return f"{count} lines are missing"


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What stderr leads to: its reading end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(module, "_STDERR", writer)
    yield reader
    os.close(writer)
    os.close(reader)


def read(pipe: int) -> str:
    found = b""
    while True:
        try:
            found += os.read(pipe, 1 << 20)
        except BlockingIOError:
            return found.decode()


def test_a_line_is_there_at_once(pipe: int) -> None:
    outlet = Outlet(None, missing)
    outlet.write("one")
    outlet.write("two\nthree")
    assert read(pipe) == "one\ntwo\nthree\n"
    outlet.close()


def test_a_reader_that_does_not_read_holds_nothing_up_and_gets_all_that_there_is_room_for(pipe: int) -> None:
    outlet = Outlet(None, missing, bound=100_000)
    # 65,536 bytes are in the pipe, and 100,000 wait.
    lines = [f"{number:09}" for number in range(30_000)]
    for line in lines:
        outlet.write(line)
    found = ""
    while more := read(pipe):
        found += more
        outlet.flush()
    got = found.splitlines()
    assert got == lines[: len(got)]
    assert 16_000 < len(got) < 17_000
    outlet.write("the next")
    assert read(pipe).splitlines() == [f"{len(lines) - len(got)} lines are missing", "the next"]
    outlet.close()


def test_a_line_longer_than_what_the_pipe_takes_at_once_is_not_cut(pipe: int) -> None:
    outlet = Outlet(None, missing)
    outlet.write("x" * 200_000)
    found = read(pipe)
    while more := (outlet.flush(), read(pipe))[1]:
        found += more
    assert found == "x" * 200_000 + "\n"
    outlet.close()


def test_the_end_waits_a_moment_for_a_slow_reader_and_no_longer(pipe: int) -> None:
    outlet = Outlet(None, missing)
    for _ in range(30_000):
        outlet.write("123456789")
    outlet.close(patience_s=0.01)
    assert read(pipe).startswith("123456789\n")


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(module, "_STDERR", writer)
    outlet = Outlet(None, missing)
    for _ in range(3):
        outlet.write("one")
    assert not outlet._waiting
    outlet.close()
    os.close(writer)


def test_a_file_is_added_to_and_opened_anew_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    outlet = Outlet(path, missing)
    outlet.write("one")
    path.rename(tmp_path / "a.log.1")
    outlet.write("two")
    outlet.reopen()
    outlet.write("three")
    outlet.close()
    assert (tmp_path / "a.log.1").read_text() == "before\none\ntwo\n"
    assert path.read_text() == "three\n"
    assert not outlet.is_terminal


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    outlet = Outlet(tmp_path / "a.log", missing)
    (tmp_path / "a.log").unlink()
    outlet.write("one")
    outlet.close()
    assert (tmp_path / "a.log").read_text() == "one\n"


def test_a_folder_that_was_removed_is_told_once_and_the_lines_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    outlet = Outlet(folder / "a.log", missing)
    (folder / "a.log").unlink()
    folder.rmdir()
    outlet.write("one")
    outlet.write("two")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"error: nothing can be written to the log {folder / 'a.log'}: No such file or directory; ")
    folder.mkdir()
    outlet.write("three")
    outlet.close()
    assert (folder / "a.log").read_text() == "2 lines are missing\nthree\n"
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_told_once_and_no_line_is_cut_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outlet = Outlet(tmp_path / "a.log", missing)
    outlet.write("one")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for broken in (lambda fd, data: write(fd, data[:2]), full):
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "write", broken)
            outlet.write("two")
    outlet.write("three")
    outlet.close()
    assert (tmp_path / "a.log").read_text() == "one\ntw\n2 lines are missing\nthree\n"
    assert capsys.readouterr().err.count("nothing can be written to the log") == 1


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Outlet(tmp_path / "no" / "a.log", missing)
