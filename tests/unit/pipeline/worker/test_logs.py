"""Logging in a worker: what is shown, in which form, and that a stage's own configuration wins."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.logs.telling import tell_entry
from pipeline.worker import logs
from stages.loading import load_stage
from tests.entries import lines_of


class Worker:
    """A process with the root logger that it was born with, which says what is under way."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.stage = ""
        self.labels: Sequence[str] = ()
        self.least = "info"
        self._capsys = capsys

    def install(self, *packages: str) -> None:
        # pytest adds its own handlers before each phase of a test, and takes them away after it.
        logging.getLogger().handlers[:] = []
        logs.install(lambda: (self.stage, self.labels), packages, tell_entry, self.least)

    @property
    def lines(self) -> list[str]:
        return lines_of(self._capsys.readouterr().err)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Worker]:
    made = Worker(capsys)
    monkeypatch.delenv(logs.LEVEL_VARIABLE, raising=False)
    root = logging.getLogger()
    level, configure = root.level, logging.basicConfig
    root.setLevel(logging.WARNING)
    yield made
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__.startswith("_pytest")]
    root.setLevel(level)
    logging.basicConfig = configure  # type: ignore[assignment]


def log_from(path: str, level: int = logging.INFO, name: str = "library") -> None:
    """Log as a file at that path does."""
    logger = logging.getLogger(name)
    if logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(name, level, path, 1, "hello", (), None))


def test_a_record_has_its_level_its_logger_the_stage_and_the_request(worker: Worker) -> None:
    worker.install()
    logging.getLogger("app").info("loading %s", "it")
    worker.stage, worker.labels = "crop", ["3fa9c-17/2 cat.jpg"]
    logging.getLogger("app.faces").warning("no face")
    assert worker.lines == ["INFO app: loading it", "WARNING app.faces [crop 3fa9c-17/2 (cat.jpg)]: no face"]


def test_of_many_requests_a_few_are_named_and_the_others_counted(worker: Worker) -> None:
    worker.install()
    worker.stage, worker.labels = "infer", [f"3fa9c-{number}" for number in range(1, 9)]
    logging.getLogger("app").error("all black")
    assert worker.lines == ["ERROR app [infer 3fa9c-1, 3fa9c-2, 3fa9c-3, 5 more]: all black"]


def test_an_exception_brings_its_traceback(worker: Worker) -> None:
    worker.install()
    try:
        {}["missing"]
    except KeyError:
        logging.getLogger("app").exception("gone")
    lines = worker.lines
    assert lines[:2] == ["ERROR app: gone", "Traceback (most recent call last):"]
    assert lines[-1] == "KeyError: 'missing'"


def test_a_record_that_cannot_be_shown_is_told_and_fails_nothing(worker: Worker) -> None:
    worker.install()
    logging.getLogger("app").info("%d faces", "no")
    lines = worker.lines
    assert "--- Logging error ---" in lines
    assert any("test_logs.py" in line for line in lines)


def test_info_is_shown_of_the_stages_own_code_and_warnings_of_libraries(worker: Worker) -> None:
    worker.install("mine")
    log_from("/home/me/app/stage.py", name="a")
    log_from("/venv/lib/python3.11/site-packages/torch/nn.py", name="b")
    log_from(logging.__file__, name="c")
    log_from("/venv/lib/python3.11/site-packages/torch/nn.py", logging.WARNING, name="d")
    log_from("/venv/lib/python3.11/site-packages/mine/stage.py", name="mine.stage")
    log_from("/home/me/app/stage.py", logging.DEBUG, name="e")
    assert worker.lines == ["INFO a: hello", "WARNING d: hello", "INFO mine.stage: hello"]


def test_the_level_of_the_runs_log_is_that_of_the_stages_own_code_and_raises_that_of_libraries(worker: Worker) -> None:
    worker.least = "debug"
    worker.install("mine")
    log_from("/home/me/app/stage.py", logging.DEBUG, name="a")
    log_from("/venv/lib/python3.11/site-packages/torch/nn.py", logging.INFO, name="b")
    assert worker.lines == ["DEBUG a: hello"]
    worker.least = "error"
    worker.install("mine")
    log_from("/home/me/app/stage.py", logging.WARNING, name="a")
    log_from("/venv/lib/python3.11/site-packages/torch/nn.py", logging.WARNING, name="b")
    log_from("/home/me/app/stage.py", logging.ERROR, name="a")
    assert worker.lines == ["ERROR a: hello"]


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("INFO", 3), ("30", 2), (" error ", 1)])
def test_the_variable_sets_the_level_of_all(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, level: str, shown: int
) -> None:
    monkeypatch.setenv(logs.LEVEL_VARIABLE, level)
    worker.install()
    for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log_from("/venv/lib/python3.11/site-packages/torch/nn.py", each)
    assert len(worker.lines) == shown


def test_a_level_that_is_none_is_told_and_ignored(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.LEVEL_VARIABLE, "loud")
    worker.install()
    logging.getLogger("app").info("hello")
    assert worker.lines == [
        "warning: TRTLAB_LOG_LEVEL=loud: expected DEBUG, INFO, WARNING, ERROR or a number; ignored",
        "INFO app: hello",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"level": logging.DEBUG, "format": "MINE %(message)s"}, ["MINE debug", "MINE info", "MINE warning"]),
        ({}, ["WARNING:app:warning"]),
    ],
)
def test_a_stage_that_configures_logging_gets_what_it_asks_for(
    worker: Worker, options: dict[str, Any], expected: list[str]
) -> None:
    worker.install()
    logging.basicConfig(**options)
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger("app"), level)(level)
    assert worker.lines == expected


def test_a_handler_that_a_stage_adds_takes_the_place_from_the_first_record_on(worker: Worker) -> None:
    worker.install()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("ADDED %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("app").warning("one")
    logging.getLogger("app").warning("two")
    assert worker.lines == ["ADDED one", "ADDED two"]


def test_the_logger_of_a_file_is_called_as_the_file(worker: Worker, tmp_path: Path) -> None:
    worker.install()
    (tmp_path / "faces.py").write_text(
        "import logging\nlogging.getLogger(__name__).info('hello')\nlogging.getLogger(__name__ + '.eyes').info('both')\n"
        "def find(x):\n    return x\n"
    )
    field = {"name": "x", "dtype": "uint8", "shape": [2]}
    load_stage("./faces.py:find", {"inputs": [field], "outputs": [field]}, tmp_path)
    assert worker.lines == ["INFO faces: hello", "INFO faces.eyes: both"]
