"""What a run prints, on its way to the program that has started it."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from pipeline.repository.log import Forwarded, Kept


def given(log: Any, *texts: bytes) -> int:
    """A descriptor as the run has it, through which it has printed."""
    descriptor = os.dup(log.descriptor)
    log.begin()
    for text in texts:
        os.write(descriptor, text)
    return descriptor


def test_each_line_goes_to_what_sys_stderr_is_now_under_the_models_name(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Forwarded("mnist")
    descriptor = given(log)
    # As a notebook and pytest's capture do: after the run was started.
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    os.write(descriptor, b"info: ready\ninference/0 | b")
    os.write(descriptor, b"usy\n\xff\nno end")
    os.close(descriptor)
    log.close()
    assert shown.getvalue() == "mnist | info: ready\nmnist | inference/0 | busy\nmnist | \ufffd\nmnist | no end\n"
    assert log.text() == "info: ready\ninference/0 | busy\n\ufffd\nno end"


def test_a_stderr_that_cannot_be_written_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, text: str) -> None:
            raise RuntimeError("a widget that is gone")

    log = Forwarded("mnist")
    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        if stream is not None:
            descriptor = given(log)
        # More than a pipe holds: if it were not read, this would wait for ever.
        for _ in range(20):
            os.write(descriptor, b"x" * 100 + b"\n" + b"y" * 9000 + b"\n")
    monkeypatch.undo()
    os.close(descriptor)
    log.close()
    assert log.text().count("y" * 9000) == 20


def test_lines_without_end_and_lines_without_number_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    log = Forwarded("m")
    descriptor = given(log)
    for _ in range(100):
        os.write(descriptor, b"z" * 4096)
    for number in range(100):
        os.write(descriptor, b"\n%d" % number)
    os.close(descriptor)
    log.close()
    assert shown.getvalue().count("z") == 100 * 4096
    # The endless one in pieces, as it came.
    assert shown.getvalue().count("\n") > 100 + 3
    assert log.text().split("\n") == [str(number) for number in range(60, 100)]


def test_a_log_that_no_run_was_given_closes() -> None:
    for log in (Forwarded("mnist"), Kept()):
        log.close()
        assert log.text() == ""


def test_what_is_kept_can_be_read_while_the_run_prints_and_after_it() -> None:
    log = Kept()
    descriptor = given(log, b"one\n")
    assert log.text() == "one\n"
    os.write(descriptor, b"two\n")
    assert log.text() == "one\ntwo\n"
    os.close(descriptor)
    log.close()
    assert log.text() == "one\ntwo\n"
