"""Signals are noted until their turn, end a wait, and before the start end the process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.supervisor.signals import StopSignals

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def signals() -> Iterator[StopSignals]:
    with StopSignals() as signals:
        yield signals


def test_what_comes_is_noted_in_order_and_ends_a_wait(signals: StopSignals) -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert select.select([signals.descriptor], [], [], 10)[0]
    assert [received.number for received in signals.received] == [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]
    assert signals.received[0].at <= signals.received[2].at
    signals.clear()
    signals.clear()
    assert not select.select([signals.descriptor], [], [], 0)[0]


def test_the_death_of_a_child_ends_a_wait_and_is_no_request_to_stop(signals: StopSignals) -> None:
    with subprocess.Popen(["true"]):
        assert select.select([signals.descriptor], [], [], 10)[0]
    assert not signals.received


def test_what_was_there_before_is_there_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    with StopSignals():
        pass
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    assert signal.set_wakeup_fd(-1) == -1


def test_a_sighup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.received
    finally:
        signal.signal(signal.SIGHUP, before)


# The program is there before the first signal can come: one that comes in the middle of its birth would leave it behind.
WAITS = """\
import subprocess
from pipeline.supervisor.signals import end_before_start
program = subprocess.Popen(["sleep", "3600"])
try:
    end_before_start(5)
    print("here", flush=True)
    program.wait()
except Exception:
    print("caught")
finally:
    program.kill()
    program.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_before_the_start_a_signal_ends_the_process_by_itself_and_with_its_word(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "stopped before it had started\n")
        assert process.returncode == 5


def test_before_the_start_the_second_signal_ends_what_does_not_listen() -> None:
    program = (
        "import time; from pipeline.supervisor.signals import end_before_start; end_before_start(5)\nfor _ in range(2):\n"
        "    try:\n        print('here', flush=True); time.sleep(3600)\n    except SystemExit:\n        pass"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.terminate()
        assert process.stdout.readline() == "here\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_signal_that_comes_after_the_end_changes_no_exit_code() -> None:
    program = (
        "import os, signal\nfrom pipeline.supervisor.signals import StopSignals, end_before_start\nend_before_start(5)\n"
        "with StopSignals():\n    pass\nos.kill(os.getpid(), signal.SIGTERM)\nraise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (3, "")
