"""A run in front of a person: on a terminal, with Ctrl-C."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.interpreter import python_command

ROOT = Path(__file__).resolve().parents[2]

#: As a shell does before it runs a command: make the terminal the command's controlling terminal.
OWN_TERMINAL = [
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
]


class Terminal:
    """A pseudo-terminal of 120 x 40 with one command on it."""

    def __init__(self, started: Callable[..., subprocess.Popen[Any]], command: list[str], *arguments: object) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color"}
        for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            env.pop(name, None)
        self.process = started(
            *arguments,
            command=[*OWN_TERMINAL, *command],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=env, cwd=ROOT,
        )  # fmt: skip
        os.close(slave)
        self.screen = ""
        # What is read at once may end in the middle of a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def read_until(self, pattern: str | None, timeout_s: float = 200.0) -> str:
        """All text shown so far, as soon as it contains `pattern`; None: as soon as the command has ended."""
        end = time.monotonic() + timeout_s
        while pattern is None or not re.search(pattern, plain(self.screen)):
            readable, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"{pattern!r} was not shown: {self.screen[-1000:]!r}"
            try:
                self.screen += self._decoder.decode(os.read(self.master, 65536))
            except OSError:  # EIO: no process has the other end any more
                assert pattern is None, self.screen[-1000:]
                break
        return plain(self.screen)

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")


@pytest.fixture
def terminal(started: Callable[..., subprocess.Popen[Any]]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def terminal(*arguments: object) -> Terminal:
        opened.append(Terminal(started, python_command("pipeline.__main__"), *arguments))
        return opened[-1]

    yield terminal
    for one in opened:
        os.close(one.master)


def plain(screen: str) -> str:
    """The text without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).replace("\r", "")


def test_a_terminal_shows_progress_then_a_table_then_a_summary(terminal: Callable[..., Terminal], folder: Any) -> None:
    files = folder.files(60)
    run = terminal("run", folder.config({"with": {"seconds": 0.02}}), folder.path / "files")
    text = run.read_until(None)
    assert run.process.wait(200) == 0
    assert "\x1b[" in run.screen
    assert re.search(r"sample .*\d+% +\d+/60 +\d+\.\d/s", text)
    table = text[text.rindex("left") :]
    # Long paths are folded, and a long table is cut with a hint about how to see all of it.
    assert "outputs" in table
    assert f"... and {len(files) - 40} more; --output FILE.jsonl writes all of them" in table
    assert "60 requests, 0 failed" in table
    assert re.search(r"latency ms: p50 [\d.]+, p90 [\d.]+, p99 [\d.]+", table)
    assert re.search(r"^ ?s0 +[\d.]+ +[\d.]+ +1\.00", table, re.MULTILINE)


def test_a_terminal_shows_that_it_starts_until_it_is_ready(terminal: Callable[..., Terminal], folder: Any) -> None:
    folder.file("slow.py", b"import time\nfrom sample_stages import Work\n"
                           b"class Slow(Work):\n    def setup(self, context):\n"
                           b"        print('in setup', flush=True)\n")  # fmt: skip
    run = terminal("run", folder.config({"use": "./slow.py:Slow"}), folder.file("a.bin"))
    run.read_until(None)
    assert run.process.wait(200) == 0
    shown, said, after = run.screen.partition("s0/0 | in setup")
    assert said
    # A line that is printed meanwhile stands above it; once it is ready, nothing is left of it.
    assert shown == "starting sample ...\r\x1b[K"
    assert after.startswith("\r\nstarting sample ...\r\x1b[K")
    assert after.count("starting") == 1


def test_each_line_of_a_shard_is_a_line_of_its_own(terminal: Callable[..., Terminal], folder: Any) -> None:
    run = terminal("run", folder.config({"replicas": 2}, shards=2), "--serve")
    run.read_until("serving sample in")
    run.press_ctrl_c()
    run.read_until(None)
    assert run.process.wait(200) == 0
    # Of each line what stands there at last: what an announcement has taken away is not seen.
    lines = [line.rpartition("\r\x1b[K")[2] for line in run.screen.split("\r\n")]
    of_shards = [line for line in lines if "shard " in line and " | " in line]
    assert {line[:10] for line in of_shards} == {"shard 0 | ", "shard 1 | "}, lines


def test_a_terminal_shows_labels_probabilities_and_failures(terminal: Callable[..., Terminal], folder: Any) -> None:
    bad = folder.file("bad.png", b"no picture at all")
    run = terminal("run", "configs/digits.yaml", "photos/digits", bad)
    text = run.read_until(None)
    assert run.process.wait(200) == 1
    assert re.search(r"file +top label +probability", text)
    for digit in range(10):
        assert re.search(rf"photos/digits/{digit}\.png +{digit} +0\.\d{{4}}", text)
    assert "bad.pngFAILEDBadInput:" in re.sub(r"\s", "", text)  # a long path is folded
    assert "11 requests, 1 failed" in text


def test_ctrl_c_answers_what_is_under_way_and_sends_nothing_more(
    terminal: Callable[..., Terminal], folder: Any
) -> None:
    folder.files(500)
    output = folder.path / "out.jsonl"
    run = terminal(
        "run", folder.config({"with": {"seconds": 0.02}}), folder.path / "files", "--output", output
    )
    run.read_until(r" [1-9]\d*/500")
    run.press_ctrl_c()
    text = run.read_until(None)
    assert run.process.wait(200) == 1
    found = re.search(r"(\d+) requests, 0 failed, (\d+) not sent", text)
    assert found
    answered, left = map(int, found.groups())
    assert answered + left == 500
    assert 0 < answered < 500
    assert output.read_text().count('"status": "ok"') == answered


def test_the_second_ctrl_c_stops_at_once(terminal: Callable[..., Terminal], folder: Any) -> None:
    folder.files(8)
    config = folder.config({"with": {"seconds": 30.0}}, drain_s=60)
    run = terminal("run", config, folder.path / "files")
    run.read_until("0/8")
    with Client.connect("sample") as client:
        while client.status()["inside"] == 0:
            time.sleep(0.01)
    supervisor = psutil.Process(run.process.pid)
    children = supervisor.children()
    assert len(children) == 3
    run.press_ctrl_c()
    time.sleep(0.5)
    assert run.process.poll() is None, run.read_until(None)
    run.press_ctrl_c()
    text = run.read_until(None)
    assert run.process.wait(200) == 1
    assert "stopping at once" in text
    assert psutil.wait_procs(children, 5)[1] == []
    assert "Traceback" not in text


def test_ctrl_c_before_it_is_ready_stops_it(terminal: Callable[..., Terminal], folder: Any) -> None:
    folder.file("slow.py", b"import time\nfrom sample_stages import Work\n"
                           b"class Slow(Work):\n    def setup(self, context):\n"
                           b"        print('in setup', flush=True)\n        time.sleep(60)\n")  # fmt: skip
    run = terminal("run", folder.config({"use": "./slow.py:Slow"}), folder.file("a.bin"))
    run.read_until("in setup")
    run.press_ctrl_c()
    text = run.read_until(None)
    assert run.process.wait(200) != 0
    assert "Traceback" not in text


def test_sigterm_on_a_pipeline_that_serves_drains_it(
    started: Callable[..., subprocess.Popen[Any]], folder: Any
) -> None:
    config = folder.config({"with": {"seconds": 0.05}})
    process = started("run", config, "--serve", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run_dir = process.stdout.readline().split(" in ")[1].strip()
    with Client.connect(Path(run_dir)) as client:
        futures = [client.submit(data=b"x") for _ in range(4)]
        client.pump(0.06)
        process.send_signal(signal.SIGTERM)
        assert [bytes(future.get(200)["data"]) for future in futures] == [b"x"] * 4
    assert process.wait(200) == 0
