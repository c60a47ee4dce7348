"""Keys of a terminal, which is as it was afterwards."""

from __future__ import annotations

import io
import os
import pty
import termios
import time

import pytest

from pipeline.watching.keys import pressed_keys


def test_keys_come_at_once_and_without_a_line_and_the_terminal_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        before = termios.tcgetattr(slave)
        with pressed_keys() as keys:
            assert keys.there
            os.write(master, b"cq")
            found = ""
            while len(found) < 2:
                found += keys.wait(5)
            assert found == "cq"
            assert keys.wait(0) == ""
            assert not termios.tcgetattr(slave)[3] & termios.ECHO
        assert termios.tcgetattr(slave) == before
    os.close(master)


def test_without_a_terminal_no_key_comes_and_the_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("q"))
    begun = time.monotonic()
    with pressed_keys() as keys:
        assert (keys.there, keys.wait(0.05)) == (False, "")
    assert time.monotonic() - begun >= 0.05
