"""Failures: what a worker says of exceptions that a stage did not mean to raise. Pure.

    examine      the exception ─▶ the user's own line, and a traceback without the runtime's frames
    Failures     which of them have been shown already: each distinct one is shown once, later ones are counted

Two failures are the same if their types and the lines they come from are: the messages may differ.
"""

from __future__ import annotations

import bdb
import inspect
import re
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import PurePath
from types import FrameType
from typing import Any, NamedTuple

from pipeline.logs.entry import Entry
from stages.errors import StageError, text_of
from stages.request import RequestInfo

__all__ = [
    "LONGEST_MESSAGE", "LONGEST_TRACEBACK", "NO_DEBUGGER", "Failures", "Home", "Story", "examine",
    "interruption", "is_own", "message_of", "start_failure",
]  # fmt: skip

NO_DEBUGGER = (
    "a worker has no terminal, so no debugger can be used in it: pipeline run --in-process CONFIG FILE runs all "
    "stages in one process, where breakpoint() works"
)

_READ_ONLY = "; a stage's inputs are read-only, for others read them too: change a copy of it, x.copy()"

LONGEST_MESSAGE = 2000
"""Characters. A notice that does not fit a frame would never arrive."""

LONGEST_TRACEBACK = 4000
"""Characters; of a longer one the middle is left out."""

_HEAD = 1200

_KINDS = 64
"""How many distinct failures of a stage are told apart; those that were seen longest ago are forgotten."""

_AGAIN_NS = 5_000_000_000
"""How often repetitions are told at most."""

#: Frames of these are the runtime's, between a stage and what it has called, or the other way round.
_RUNTIME_PACKAGES = ("pipeline", "shm")
_RUNTIME_MODULES = (
    "stages.batch", "stages.conversion", "stages.function", "stages.loading", "stages.spec", "stages.stage",
    "stages.testing",
)  # fmt: skip

_NUMBER = re.compile(r"\d+")

_LIBRARIES = ("site-packages", "dist-packages")
_STANDARD = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")})


class Home(NamedTuple):
    """Where the code of a stage is."""

    package: str
    """Its outermost package, or its module."""
    place: str
    """Of its `process`, or of its function: "brightness.py:20"; "" if that is not known."""

    @staticmethod
    def of(stage: object) -> Home:
        """The home of a user's object."""
        made: Any = getattr(stage, "function", None) or type(stage)
        process: Any = made if inspect.isfunction(made) else getattr(made, "process", None)
        code = getattr(inspect.unwrap(process), "__code__", None) if process is not None else None
        place = "" if code is None else f"{PurePath(code.co_filename).name}:{code.co_firstlineno}"
        return Home(str(made.__module__).partition(".")[0], place)


class Story(NamedTuple):
    """What a worker says of one exception."""

    kind: str
    """Equal for failures that are the same."""
    name: str
    """Its type and the user's own line: "ValueError (brightness.py:12)"; the type alone if that is not known."""
    message: str
    """Its type, its text and the user's own line: "ValueError: no face found (brightness.py:12)"."""
    traceback: str
    """For people, the last call last, without the runtime's frames; "" if nothing is left. No newline at its end."""


def message_of(error: BaseException) -> str:
    """The text of an exception, whatever it does; not longer than a notice takes."""
    if isinstance(error, bdb.BdbQuit):
        return NO_DEBUGGER
    text = text_of(error)
    if isinstance(error, ValueError) and text.endswith("is read-only"):
        # What numpy says of it.
        text += _READ_ONLY
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "..."


def examine(error: BaseException, home: Home) -> Story:
    """Where an exception comes from.

    Args:
        error: as it was caught.
        home: of the stage that raised it.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    shown = [(frame, line) for frame, line in frames if not _is_runtime(frame)]
    if not shown and not isinstance(error, StageError):
        # The runtime's own fault: then its frames are wanted.
        shown = frames
    own = [(frame, line) for frame, line in shown if is_own(frame, home)]
    where = home.place
    if shown:
        frame, line = (own or shown)[-1]
        where = f"{PurePath(frame.f_code.co_filename).name}:{line}"
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in shown]
    name, text = type(error).__name__, message_of(error)
    if not shown:
        # The runtime's own refusals differ from each other in their text alone.
        places = [where, _NUMBER.sub("#", text)]
    line_of = f" ({where})" if where else ""
    message = f"{name}: {text}{line_of}" if text else name + line_of
    kind = "\n".join([type(error).__qualname__, *places])
    return Story(kind, name + line_of, message, _format(error) if shown else "")


def start_failure(error: BaseException) -> tuple[str, str]:
    """(what to say, traceback or "") of what a stage has raised while it was imported, made or set up."""
    # An error of ours says where and why by itself; its cause is the user's.
    root = error.__cause__ if isinstance(error, StageError) and error.__cause__ is not None else error
    told = examine(root, Home("", ""))
    return told.message if root is error else f"{type(error).__name__}: {message_of(error)}", told.traceback


def interruption(error: KeyboardInterrupt) -> str:
    """Where code was that Ctrl-C has interrupted, as Python tells it, without the runtime's frames."""
    # If only the runtime was running, there is no place of the user's to tell.
    if all(_is_runtime(frame) for frame, _ in traceback.walk_tb(error.__traceback__)):
        return type(error).__name__
    return _format(error)


def _is_runtime(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        return True
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _RUNTIME_PACKAGES or name in _RUNTIME_MODULES


def is_own(frame: FrameType, home: Home) -> bool:
    """Whether it is the stage author's code, and neither a library's nor the runtime's."""
    if _is_runtime(frame):
        return False
    name = str(frame.f_globals.get("__name__", ""))
    if name.partition(".")[0] == home.package:
        return True
    file = frame.f_code.co_filename
    if file.startswith(("<frozen", *_STANDARD)):
        return False
    return not any(part in _LIBRARIES for part in PurePath(file).parts)


def _format(error: BaseException) -> str:
    try:
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        _strip(told, error)
        text = "".join(told.format()).rstrip("\n")
    except Exception as another:  # whatever a user's exception class does
        return f"the traceback of this {type(error).__name__} cannot be shown: {type(another).__name__}"
    if len(text) <= LONGEST_TRACEBACK:
        return text
    tail = LONGEST_TRACEBACK - _HEAD
    left_out = len(text) - LONGEST_TRACEBACK
    return f"{text[:_HEAD]}\n    ... {left_out} characters are left out here ...\n{text[-tail:]}"


def _strip(told: traceback.TracebackException, error: BaseException) -> None:
    """Leave the runtime's frames out, those of the exception's causes too."""
    while True:
        frames = list(traceback.walk_tb(error.__traceback__))
        if len(frames) == len(told.stack):
            kept = [entry for entry, (frame, _) in zip(told.stack, frames) if not _is_runtime(frame)]
            if kept or isinstance(error, StageError):
                told.stack[:] = kept
        if told.__cause__ is not None and error.__cause__ is not None:
            told, error = told.__cause__, error.__cause__
        elif told.__context__ is not None and error.__context__ is not None:
            told, error = told.__context__, error.__context__
        else:
            return


class Failures:
    """Which failures of a stage have been shown.

    Args:
        clock: monotonic nanoseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        #: kind -> [repetitions that were not told, what to call it, the last request, its label, the stage]; the last
        #: seen is the last.
        self._kinds: dict[str, list[Any]] = {}
        self._told_at = 0
        #: What `take` will return, to be told.
        self._entries: list[Entry] = []
        #: All failures that were added.
        self.count = 0

    def add(self, story: Story, label: str, stage: str, rows: int = 1) -> None:
        """Count one.

        Args:
            story: of the exception.
            label: of the request (see `stages.request`); "": a whole batch has failed.
            stage: its name.
            rows: of that batch.
        """
        self.count += 1
        request = f"request {RequestInfo.parse(label)}" if label else f"a batch of {rows}"
        known = self._kinds.pop(story.kind, None)
        if known is None:
            text = f"{request} failed in stage {stage}: {story.message}"
            self._entries.append(_error(text, stage, label)._replace(traceback=story.traceback))
            known = [0, story.name, "", "", stage]
            if len(self._kinds) >= _KINDS:
                self._tell(self._kinds.pop(next(iter(self._kinds))))
        else:
            known[0] += 1
            known[2:4] = request, label
        self._kinds[story.kind] = known

    def take(self, *, everything: bool = False) -> list[Entry]:
        """What to tell operators now.

        Args:
            everything: the repetitions too that could still wait for others.
        """
        now = self._clock()
        if everything or now - self._told_at >= _AGAIN_NS:
            self._told_at = now
            for known in self._kinds.values():
                self._tell(known)
        entries, self._entries = self._entries, []
        return entries

    def _tell(self, known: list[Any]) -> None:
        count, what, request, label, stage = known
        if count:
            times = "once" if count == 1 else f"{count} times"
            self._entries.append(_error(f"again, {times}: {what}, last {request}", stage, label))
            known[0] = 0


def _error(text: str, stage: str, label: str) -> Entry:
    return Entry("error", text, stage=stage, requests=(label,) if label else ())
