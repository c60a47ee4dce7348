"""Logs: where the `logging` of stages goes in a worker process: to its stderr, and so to that of the run.

    brightness/0 | WARNING brightness [brightness 3fa9c-17 (cat.jpg)]: nearly black
    ^ the supervisor writes this              ^ the stage, and the requests that it has in its hands

If the code of a stage sets nothing up, its own records are shown from INFO on, and those of libraries from WARNING on.
TRTLAB_LOG_LEVEL sets one level for all. A stage that configures logging itself gets what it asks for: this handler
is silent as soon as the root logger has another, and `logging.basicConfig` takes its place.
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

from stages.request import RequestInfo

__all__ = ["LEVEL_VARIABLE", "install", "level_of"]

LEVEL_VARIABLE = "TRTLAB_LOG_LEVEL"

#: How many requests are named; of the others only their number is shown.
_NAMED = 3

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
    """Shows records with the requests that are under way."""

    def __init__(self, under_way: UnderWay, packages: Sequence[str], level: int | None) -> None:
        super().__init__()
        self._under_way = under_way
        self._packages = packages
        self._given = level
        self.setFormatter(logging.Formatter("%(levelname)s %(logger)s%(requests)s: %(message)s"))

    def filter(self, record: logging.LogRecord) -> Any:
        if self._given is None and record.levelno < logging.WARNING and not self._is_own(record):
            return False
        return super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        if len(logging.getLogger().handlers) > 1:
            # Code that has added another handler has configured logging, and wants nothing twice. Not removed here:
            # the logger goes through its handlers at this moment, and would pass over the next.
            return
        record.logger = _plain_name(record.name)
        record.requests = _under_way_text(*self._under_way())
        try:
            # In one piece: otherwise what another thread prints would come in between.
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            # Arguments that do not suit their message, for example: shown with the line that logs, and nothing fails.
            self.handleError(record)

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


def _under_way_text(stage: str, labels: Sequence[str]) -> str:
    if not stage:
        return ""
    shown = [str(RequestInfo.parse(label)) for label in labels[:_NAMED]]
    if len(labels) > _NAMED:
        shown.append(f"{len(labels) - _NAMED} more")
    return f" [{stage} {', '.join(shown)}]"


def install(under_way: UnderWay, packages: Sequence[str]) -> None:
    """Show what is logged in this process on its stderr. To be called before any code of the user's is imported.

    Args:
        under_way: asked for each record.
        packages: the outermost packages of the stages, wherever they are installed.
    """
    text = os.environ.get(LEVEL_VARIABLE, "")
    level = level_of(text) if text else None
    if text and level is None:
        print(f"{LEVEL_VARIABLE}={text}: expected DEBUG, INFO, WARNING, ERROR or a number; ignored", file=sys.stderr)
    root = logging.getLogger()
    usual = root.level
    handler = _Handler(under_way, packages, level)
    root.addHandler(handler)
    root.setLevel(logging.INFO if level is None else level)
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        if handler in root.handlers:
            # `basicConfig` does nothing if there is a handler already; the one that is here is not the user's.
            root.removeHandler(handler)
            root.setLevel(usual)
        configure(**options)

    logging.basicConfig = basic_config
