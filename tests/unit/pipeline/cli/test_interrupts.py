"""Ctrl-C in the first moments of a command, while it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.interrupts import EXIT_INTERRUPTED, end_as_usual, end_quietly

ROOT = Path(__file__).resolve().parents[4]

#: In place of a library that takes long to import.
SLOW = "print('imported now', flush=True)\nimport time\ntime.sleep(60)\n"


@pytest.fixture
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


# `end_before_start` is for a run that imports its own modules: test_stop_signals.py.
@pytest.mark.parametrize(("command", "library"), [("run", "typer"), ("check", "typer"), ("check", "yaml")])
def test_ctrl_c_during_an_import_ends_quietly(
    started: Callable[..., subprocess.Popen[Any]], tmp_path: Path, library: str, command: str
) -> None:
    tmp_path.joinpath(f"{library}.py").write_text(SLOW)
    line = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
            "from pipeline.__main__ import main; sys.argv[0] = 'pipeline'; main()"]  # fmt: skip
    process = started(command, command=line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "imported now\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (EXIT_INTERRUPTED, "")


def test_once_a_command_works_ctrl_c_is_an_exception_again(restored: None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_quietly()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    end_as_usual()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_at_work_is_interrupted_by_an_exception_so_that_it_clears_up(
    started: Callable[..., subprocess.Popen[Any]], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    os.mkfifo(here)
    tmp_path.joinpath("slow.py").write_text(f"import time\nopen({str(here)!r}, 'w').close()\ntime.sleep(60)\n")
    config = tmp_path / "slow.yaml"
    config.write_text("inputs: [{name: x, dtype: uint8, shape: [1]}]\nstages: [{name: s, use: './slow.py:Slow'}]\n")
    code = "import atexit; atexit.register(print, 'cleared up'); from pipeline.__main__ import main; main()"
    process = started("check", config, command=[sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    here.read_text()  # until the stage is imported
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out == "cleared up\n"


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_sigint_that_is_ignored_or_handled_stays_so(restored: None, before: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, before)
    end_quietly()
    end_as_usual()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_console_script_begins_with_it() -> None:
    assert 'pipeline = "pipeline.__main__:main"' in (ROOT / "pyproject.toml").read_text()
