"""A child as the operating system sees it: how its end is described, and what ends with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.logs.entry import RAW_MARK, Entry, entries_in
from pipeline.supervisor.process import ChildProcess, describe_exit


@pytest.mark.parametrize(
    ("code", "out_of_memory", "said"),
    [
        (0, False, "exit code 0"),
        (3, True, "exit code 3"),
        (-11, True, "killed by signal 11 (SIGSEGV)"),
        (-9, False, "killed by signal 9 (SIGKILL)"),
        (-9, True, "killed by signal 9 (SIGKILL: the kernel's out-of-memory killer; give it more memory, or use fewer replicas or smaller batches)"),
        (-64, False, "killed by signal 64 (SIGRTMAX)"),
        (-63, False, "killed by signal 63 (unknown)"),
    ],
)  # fmt: skip
def test_an_exit_status_is_told_in_words(code: int, out_of_memory: bool, said: str) -> None:
    assert describe_exit(code, out_of_memory=out_of_memory) == said


STARTS = "import subprocess, sys; sys.stdin.readline(); p = subprocess.Popen(['sleep', '3600']); print(p.pid, flush=True); sys.stdin.readline()"


@pytest.fixture
def child() -> ChildProcess:
    return ChildProcess([sys.executable, "-c", STARTS], b"boot\n", {})


def line(child: ChildProcess) -> str:
    while True:
        for entry in child.read("s/0"):
            return entry.text
        time.sleep(0.005)


def end(child: ChildProcess) -> int:
    while (status := child.exit_status()) is None:
        time.sleep(0.005)
    child.close()
    return status


@pytest.mark.parametrize(
    ("title", "entry"),
    [
        ("s/0", Entry("error", "\U0001f600" * 10**5, "s/0", traceback="\U0001f600" * 10**5)),
        ("access", Entry("info", "x" * 10**5, "access", raw=True)),
    ],
)
def test_what_is_as_long_as_it_may_be_comes_in_one_piece(title: str, entry: Entry, tmp_path: Path) -> None:
    said = f"{RAW_MARK}{entry.text}\n" if entry.raw else entry._replace(process="").line()
    (tmp_path / "said").write_text(said)
    shows = f"import sys; sys.stdout.write(open({str(tmp_path / 'said')!r}).read()); sys.stdout.flush(); sys.stdin.read()"
    child = ChildProcess([sys.executable, "-c", shows], b"boot\n", {})
    found: list[Entry] = []
    while not found:
        found += child.read(title)
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    end(child)
    assert found == entries_in(said[:-1], title)
    assert (found[0].level, found[0].raw) == (entry.level, entry.raw)


SAYS = """
from pipeline.logs.entry import Entry
print('before', end='')
print(Entry('error', 'last', traceback='Traceback\\nwhere').line(), end='')
print(Entry('warning', 'stands in the log').line(), end='')
print('x' * 5000)
"""


def test_what_a_child_says_and_prints_are_entries_and_plain_in_its_story() -> None:
    child = ChildProcess([sys.executable, "-c", SAYS], b"boot\n", {})
    lines: list[Entry] = []
    while child.output is not None:
        lines += child.read("s/0")
        time.sleep(0.005)
    end(child)
    assert lines == [
        Entry("info", "before", "s/0", printed=True), Entry("error", "last", "s/0", traceback="Traceback\nwhere"),
        Entry("warning", "stands in the log", "s/0"),
        Entry("info", "x" * 2000, "s/0", printed=True),
    ]  # fmt: skip
    story = child.story()
    assert story.startswith("exit code 0; it printed last:\n    before\n    last\n    Traceback\n    where\n    xxx")


def test_a_child_that_prints_without_end_keeps_no_one_from_other_work() -> None:
    child = ChildProcess(["yes"], b"boot\n", {})
    while not list(child.read("s/0")):
        time.sleep(0.005)
    # Each call ends, however fast it prints, and has few of its lines: they are looked at one by one. At most one chunk of
    # 64 KiB, here 32768 lines, is begun before there are 4096.
    for _ in range(3):
        assert len(list(child.read("s/0"))) <= 4095 + 32768
    child.send_signal(signal.SIGKILL)
    end(child)


def test_what_a_child_has_started_goes_with_it(child: ChildProcess) -> None:
    pid = int(line(child))
    assert os.getpgid(pid) == os.getsid(pid) == child.pid
    assert child.exit_status() is None
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    child.send_signal(signal.SIGKILL)
    assert end(child) == -signal.SIGKILL
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)  # it is not there any more


def test_a_child_is_born_with_the_signals_blocked_that_all_of_a_run_may_get(child: ChildProcess) -> None:
    line(child)
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    blocked = int(next(text for text in lines if text.startswith("SigBlk")).split()[1], 16)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        assert blocked >> (number - 1) & 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.send_signal(signal.SIGKILL)
    end(child)
