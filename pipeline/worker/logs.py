"""Logs: where the `logging` of stages goes in a worker process: into the log of the run.

    brightness/0 | WARNING brightness [brightness 3fa9c-17 (cat.jpg)]: nearly black
    ^ the supervisor writes this              ^ the stage, and the requests that it has in its hands

If the code of a stage sets nothing up, its own records are shown from INFO on, and those of libraries from WARNING on;
`--log-level` changes that of its own, and raises that of libraries. TRTLAB_LOG_LEVEL sets one level for all. A stage
that configures logging itself gets what it asks for: this handler is silent as soon as the root logger has another, and
`logging.basicConfig` takes its place.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from pipeline.logs.entry import LEVELS, Entry, level_of_number

__all__ = ["LEVEL_VARIABLE", "install", "level_of"]

LEVEL_VARIABLE = "TRTLAB_LOG_LEVEL"

#: How many requests are named; of the others only their number is told.
_NAMED = 16

UnderWay = Callable[[], tuple[str, Sequence[str]]]
"""The stage that computes at this moment, "" for none; and the labels of its requests."""

_LIBRARIES = ("site-packages", "dist-packages")
_STANDARD = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")})


def level_of(text: str) -> int | None:
    """The level that a name or a number stands for; None if it is neither."""
    text = text.strip().upper()
    if text.isdecimal():
        return int(text)
    level = logging.getLevelName(text)
    return level if isinstance(level, int) else None


class _Handler(logging.Handler):
    """Tells of records with the requests that are under way."""

    def __init__(
        self, under_way: UnderWay, packages: Sequence[str], level: int | None, tell: Callable[[Entry], None]
    ) -> None:
        super().__init__()
        self._under_way = under_way
        self._packages = packages
        self._given = level
        self._tell = tell

    def filter(self, record: logging.LogRecord) -> Any:
        if self._given is None and record.levelno < logging.WARNING and not self._is_own(record):
            return False
        return super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        if len(logging.getLogger().handlers) > 1:
            # Code that has added another handler has configured logging, and wants nothing twice. Not removed here:
            # the logger goes through its handlers at this moment, and would pass over the next.
            return
        try:
            stage, labels = self._under_way()
            level, logger = level_of_number(record.levelno), _plain_name(record.name)
            named, count = tuple(labels[:_NAMED]), len(labels)
            text, lines = self._split(record)
            self._tell(Entry(level, text, "", stage, named, logger, lines, total=count))
        except Exception:
            # Arguments that do not suit their message, for example: shown with the line that logs, and nothing fails.
            self.handleError(record)

    def _split(self, record: logging.LogRecord) -> tuple[str, str]:
        """(the message, the traceback or "")."""
        text = record.getMessage()
        # `format` appends to the message what the record has of an exception, and of a stack.
        return text, self.format(record).removeprefix(text).strip("\n")

    def _is_own(self, record: logging.LogRecord) -> bool:
        """Whether a record comes from the code of the stages, not from a library."""
        if record.name.partition(".")[0] in self._packages:
            return True
        if record.pathname.startswith(("<frozen", *_STANDARD)):
            return False
        return not any(part in _LIBRARIES for part in PurePath(record.pathname).parts)


def _plain_name(name: str) -> str:
    """A logger's name. That of `logging.getLogger(__name__)` in ./file.py is `file`, as if it had been imported."""
    module, dot, rest = name.partition(".")
    file = getattr(sys.modules.get(module), "__file__", None)
    stem = "" if file is None else PurePath(file).stem
    return stem + dot + rest if stem and re.fullmatch(re.escape(stem) + "_[0-9a-f]{12}", module) else name


def install(
    under_way: UnderWay, packages: Sequence[str], tell: Callable[[Entry], None], least: str = "info"
) -> None:
    """Tell operators what is logged in this process. To be called before any code of the user's is imported.

    Args:
        under_way: asked for each record.
        packages: the outermost packages of the stages, wherever they are installed.
        tell: is given each record.
        least: the level of the run's log.
    """
    text = os.environ.get(LEVEL_VARIABLE, "")
    level = level_of(text) if text else None
    if text and level is None:
        what = "expected DEBUG, INFO, WARNING, ERROR or a number; ignored"
        tell(Entry("warning", f"{LEVEL_VARIABLE}={text}: {what}"))
    root = logging.getLogger()
    usual = root.level
    handler = _Handler(under_way, packages, level, tell)
    root.addHandler(handler)
    root.setLevel(LEVELS[least] if level is None else level)
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        if handler in root.handlers:
            # `basicConfig` does nothing if there is a handler already; the one that is here is not the user's.
            root.removeHandler(handler)
            root.setLevel(usual)
        configure(**options)

    logging.basicConfig = basic_config
