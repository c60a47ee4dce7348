"""Streams as a daemon, a cron job or `| head` leaves them: each in a process of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(code: str, redirections: str = "", **env: str) -> subprocess.CompletedProcess[bytes]:
    """This code in a Python whose streams a shell has set up."""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, f"from pipeline.streams import *\n{code}"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "", **env}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere_and_its_number_goes_to_no_other_file(tmp_path: Path, closed: str) -> None:
    done = run(
        "prepare_streams()\n"
        f"fd = open({str(tmp_path / 'file')!r}, 'w').fileno()\n"
        "import os, sys\n"
        "assert fd > 2\n"
        "print('out', flush=True); print('err', file=sys.stderr, flush=True); sys.stdin.read()\n"
        "assert all(os.get_inheritable(fd) for fd in (0, 1, 2))\n"
        f"open({str(tmp_path / 'reached')!r}, 'w')",
        closed,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reached").exists()
    assert done.stdout == (b"" if ">&-" in closed.split() else b"out\n")


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", rb"K\xe4se \u732b"), ("latin-1", b"K\xe4se \\u732b"), ("utf-8", "Käse 猫".encode())])
def test_what_an_encoding_has_no_character_for_is_an_escape(encoding: str, expected: bytes) -> None:
    done = run("prepare_streams(); import sys; print('Käse 猫'); print('猫', file=sys.stderr)", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, expected + b"\n")


ANNOUNCED = "announce('starting ...'); say('a line'); unannounce(); say('ready'); unannounce()"


def test_what_is_announced_is_one_line_of_a_terminal_and_goes_again() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 9, 0, 0))
    command = [sys.executable, "-c", f"from pipeline.streams import *\n{ANNOUNCED}"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "TERM": "xterm"}, stderr=slave, timeout=60, check=True)
    os.close(slave)
    shown = os.read(master, 4096).decode()
    os.close(master)
    # Of nine columns: a line that the terminal breaks could not be taken away.
    assert shown == "starting\r\x1b[Ka line\r\nstarting\r\x1b[Kready\r\n"


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_where_stderr_is_no_terminal_nothing_is_announced(terminal: str) -> None:
    assert run(ANNOUNCED, TERM=terminal).stderr == b"a line\nready\n"
    assert run("take_over_line(); say('a line')", TERM=terminal).stderr == b"a line\n"


@pytest.mark.parametrize(("terminal", "expected"), [("xterm", "\r\x1b[Ka line\r\n"), ("dumb", "a line\r\n")])
def test_a_process_takes_the_line_over_that_another_one_announces(terminal: str, expected: str) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from pipeline.streams import *\ntake_over_line(); say('a line')"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "TERM": terminal}, stderr=slave, timeout=60, check=True)
    os.close(slave)
    shown = os.read(master, 4096).decode()
    os.close(master)
    assert shown == expected


def test_an_encoding_may_be_given() -> None:
    done = run("prepare_streams('utf-8'); print('猫')", PYTHONIOENCODING="ascii")
    assert done.stdout == "猫\n".encode()


def test_a_line_to_a_reader_that_has_gone_is_lost_and_so_are_all_after_it() -> None:
    code = (
        "import os, sys\n"
        "prepare_streams()\n"
        "read, write = os.pipe(); os.dup2(write, 2); os.close(write); os.close(read)\n"
        "say('one'); say('two'); settle_streams(); print('done')"
    )
    done = run(code)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_stream_that_its_parent_has_set_not_to_block_loses_nothing() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    code = "from pipeline.streams import *; prepare_streams(); [print('x' * 99) for _ in range(10_000)]"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=write)
    os.close(write)
    with process, open(read, "rb") as stream:
        # It has filled the pipe by then, and waits.
        assert stream.read(10) == b"x" * 10
        time.sleep(0.2)
        assert len(stream.read()) == 1_000_000 - 10
    assert process.returncode == 0


def test_a_line_to_a_full_disk_is_lost_and_the_exit_code_stays() -> None:
    code = "prepare_streams(); say('one'); print('two'); settle_streams(); import sys; sys.exit(5)"
    assert run(code, ">/dev/full 2>/dev/full").returncode == 5
    # Else Python's own end makes 120 of it.
    assert run("print('two'); import sys; sys.exit(5)", ">/dev/full").returncode == 120
