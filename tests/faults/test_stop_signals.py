"""Signals that ask a run to stop: from a closed terminal, and before the run is ready."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.wire.run_dir import find_run, runs
from tests.faults.load import until

Started = Callable[..., "subprocess.Popen[Any]"]

SLOW = """
import time
from pathlib import Path

from deadly_stages import Work

{imports}

class Slow(Work):
    def setup(self, context):
        {setup}
"""


def serving(process: subprocess.Popen[Any]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip().partition(" in ")[2])


def test_sighup_drains_as_sigterm_does(folder: Any, started: Started) -> None:
    process = started("run", folder.config({"with.seconds": 0.3}), "--serve", stdout=subprocess.PIPE, text=True)
    run_dir = serving(process)
    with Client.connect(run_dir) as client:
        futures = [client.submit(data=b"x") for _ in range(3)]
        client.pump(0.05)
        # A closed terminal sends one signal, and its shell another.
        process.send_signal(signal.SIGHUP)
        time.sleep(0.15)
        process.send_signal(signal.SIGHUP)
        assert [bytes(future.get(200)["data"]) for future in futures] == [b"x"] * 3
    assert process.wait(200) == 0
    assert not run_dir.exists()


def test_under_nohup_sighup_does_nothing(folder: Any, started: Started) -> None:
    ignoring = [sys.executable, "-c", "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"]  # fmt: skip
    process = started(
        "run", folder.config({}), "--serve",
        command=[*ignoring, sys.executable, "-m", "pipeline"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with Client.connect(serving(process)) as client:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert bytes(client.submit(data=b"x").get(200)["data"]) == b"x"
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 0


@pytest.mark.parametrize("serve", [True, False])
def test_a_terminal_that_is_closed_ends_the_run_and_leaves_nothing(folder: Any, started: Started, serve: bool) -> None:
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had here: {error}")
    own_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    # A run over files prints something at its end, and no process reads it.
    work = ["--serve"] if serve else [__file__] * 500
    config = folder.config({} if serve else {"with.seconds": 0.1})
    process = started(
        "run", config, *work,
        command=[sys.executable, "-c", own_terminal, sys.executable, "-m", "pipeline"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    until(lambda: runs("faulty"))
    run_dir = find_run("faulty")
    with Client.connect(run_dir) as client:
        assert bytes(client.submit(data=b"x").get(200)["data"]) == b"x"
    children = psutil.Process(process.pid).children()
    os.close(master)
    assert process.wait(200) == (0 if serve else 1)
    assert psutil.wait_procs(children, 10)[1] == []
    assert not run_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("where", ["imports", "setup"])
def test_a_run_that_is_stopped_while_it_starts_ends_well_and_leaves_nothing(
    folder: Any, started: Started, where: str, number: signal.Signals
) -> None:
    mark = folder.path / "reached"
    waits = f"Path({str(mark)!r}).touch(); time.sleep(3600)"
    (folder.path / "slow.py").write_text(SLOW.format(**{"imports": "", "setup": "pass", where: waits}))
    config = folder.config({"use": "./slow.py:Slow", "with": {}})
    process = started("run", config, "--serve", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(mark.exists)
    children = psutil.Process(process.pid).children()
    assert children
    process.send_signal(number)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (0, "")
    assert "stopped" in err
    assert "at once" not in err
    assert "Traceback" not in err
    assert psutil.wait_procs(children, 10)[1] == []


def test_a_start_that_is_stopped_fails_if_files_should_have_been_run(folder: Any, started: Started) -> None:
    mark = folder.path / "reached"
    waits = f"Path({str(mark)!r}).touch(); time.sleep(3600)"
    (folder.path / "slow.py").write_text(SLOW.format(imports="", setup=waits))
    process = started("run", folder.config({"use": "./slow.py:Slow", "with": {}}), __file__, stderr=subprocess.DEVNULL)
    until(mark.exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 1


def test_the_second_signal_stops_at_once_even_with_requests_under_way(folder: Any, started: Started) -> None:
    process = started("run", folder.config({"with.seconds": 3600}), "--serve", stdout=subprocess.PIPE, text=True)
    with Client.connect(serving(process)) as client:
        client.submit(data=b"x")
        until(lambda: client.status()["inside"] == 1)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert process.wait(200) == 1


def test_sigterm_to_the_whole_group_while_children_are_born_kills_none_of_them(folder: Any, started: Started) -> None:
    # As systemd's KillMode=control-group and `timeout` do: their one SIGTERM reaches the supervisor and each child.
    (folder.path / "slow.py").write_text(SLOW.format(imports="time.sleep(0.5)", setup="time.sleep(0.5)"))
    process = started(
        "run", folder.config({"use": "./slow.py:Slow", "with": {}, "replicas": 2}), "--serve",
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: len(psutil.Process(process.pid).children()) == 3)
    for child in psutil.Process(process.pid).children():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            child.send_signal(number)
    with Client.connect(serving(process)) as client:
        assert bytes(client.submit(data=b"x").get(200)["data"]) == b"x"
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 0
