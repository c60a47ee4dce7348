"""Lifelines: the end of the program that has started a process, as that process sees it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from pipeline.lifeline import let_go, new_lifeline, write_to

WATCHES = """
import signal, sys, time
from pipeline.lifeline import StarterWatch

def noted(number, frame):
    print("term", watch.gone, flush=True)
    sys.exit(7)

signal.signal(signal.SIGTERM, noted)
watch = StarterWatch()
print("watches", repr(sys.stdin.read()), flush=True)
time.sleep(60)
"""

TAKES = """
import signal, sys, time
from pipeline.lifeline import StarterWatch

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
StarterWatch(lambda line: print(len(line), line[:5], flush=True))
time.sleep(60)
"""


def has_ended(reader: int, within_s: float) -> bool:
    return bool(select.select([reader], [], [], within_s)[0]) and os.read(reader, 1) == b""


@pytest.fixture
def lifeline() -> object:
    reader, writer = new_lifeline()
    yield reader, writer
    let_go(writer)
    os.close(reader)


def test_it_ends_once_its_holder_lets_go_and_a_second_time_does_no_harm(lifeline: tuple[int, int]) -> None:
    reader, writer = lifeline
    assert not has_ended(reader, 0.05)
    let_go(writer)
    # Its number may be that of another file by now.
    other = os.open(os.devnull, os.O_RDONLY)
    let_go(writer)
    os.fstat(other)
    os.close(other)
    assert has_ended(reader, 5)


def test_a_forked_child_has_no_part_in_it(lifeline: tuple[int, int]) -> None:
    reader, writer = lifeline
    child = os.fork()
    if child == 0:
        # What has its number here is not touched.
        taken = os.open(os.devnull, os.O_RDONLY)
        let_go(writer)
        try:
            os.fstat(taken)
            time.sleep(30)
        finally:
            os._exit(1)
    try:
        assert not has_ended(reader, 0.1)
        let_go(writer)
        assert has_ended(reader, 5), "the child holds it"
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_another_program_has_no_part_in_it(lifeline: tuple[int, int]) -> None:
    reader, writer = lifeline
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], close_fds=False)
    let_go(writer)
    assert has_ended(reader, 5)
    child.kill()
    child.wait()


@pytest.mark.parametrize("written", [b"", b"something\n"])
def test_the_started_process_gets_a_sigterm_at_its_end_and_its_stdin_is_empty(written: bytes) -> None:
    process = subprocess.Popen([sys.executable, "-c", WATCHES], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"watches ''\n"
    process.stdin.write(written)
    process.stdin.flush()
    assert not select.select([process.stdout], [], [], 0.1)[0]
    process.stdin.close()
    assert process.stdout.read() == b"term True\n"
    assert process.wait() == 7
    process.stdout.close()


def test_the_started_process_takes_each_line_whole_and_what_has_no_end_is_dropped() -> None:
    process = subprocess.Popen([sys.executable, "-c", TAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    # Longer than a pipe holds.
    for text in (b"one\ntw", b"o\n" + b"x" * 100_000 + b"\nno end"):
        process.stdin.write(text)
        process.stdin.flush()
    process.stdin.close()
    assert process.stdout.read() == b"3 b'one'\n3 b'two'\n100000 b'xxxxx'\n"
    assert process.wait() == 7
    process.stdout.close()


def test_a_holder_writes_what_there_is_room_for_and_never_waits(lifeline: tuple[int, int]) -> None:
    reader, writer = lifeline
    assert write_to(writer, b"some") == 4
    assert os.read(reader, 10) == b"some"
    written = write_to(writer, bytes(1 << 20))
    assert written is not None
    assert 0 < written < 1 << 20
    assert write_to(writer, b"more") == 0, "it is full"
    let_go(writer)
    # Its number may be that of another file by now.
    taken = os.open(os.devnull, os.O_WRONLY)
    try:
        assert write_to(writer, b"some") is None
    finally:
        os.close(taken)


def test_what_is_written_for_a_process_that_is_gone_is_lost() -> None:
    reader, writer = new_lifeline()
    os.close(reader)
    assert write_to(writer, b"some") is None
    let_go(writer)
