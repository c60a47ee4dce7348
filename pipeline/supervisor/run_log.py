"""Run log: what a run says, kept in a file of its own as text, for `pipeline logs` and for after its end.

    <logs home>/<run>.log        0600; the newest lines, each behind the time at which the supervisor had it, in UTC
    <logs home>/<run>.log.1      the lines before them

Each file but the first begins with a line that says how many came before it: a reader that follows is told by it of
what was overwritten before it was read.

The supervisor alone writes it: its own lines, and those of its children that it passes on. A line costs one write(2)
without a wait for the disk, and no process that serves requests writes any. A file has at most 1 MiB, and then becomes
the second one, in place of what that was: a run keeps its last 1 to 2 MiB. Of the runs of a pipeline that have ended,
the last five are kept, for 30 days. The supervisor holds the lock (flock) of the newest file, so others see which run
has ended, in whatever home of runs it was.

A log is no reason to fail: if there is no place for it, or the disk is full, the run goes on without it, and says so.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import msgspec

from pipeline.errors import StartError
from pipeline.logs.complaints import Complaints
from pipeline.logs.entry import LEVELS, Entry
from pipeline.logs.forms import missing_lines, text_of, text_of_before, time_of
from pipeline.logs.log import OperatorLog
from pipeline.wire.home import logs_home

__all__ = ["ENDED", "LogFile", "RunLog", "log_path", "logged_runs"]

ENDED = "ended with exit code "
"""How the text of the last line begins, of a run that was not killed."""

_PHASES = {"draining": "draining: what is under way is finished, and no new request is taken", "stopping": "stopping"}

_BOUND = 1 << 20
_KEPT_RUNS = 5
_KEPT_S = 30 * 86_400.0
_SUFFIX = ".log"
_BEFORE = ".1"


def log_path(run: str) -> Path | None:
    """The newest file of the log of a run with this id, whether it is there or not; None: this user has no place."""
    home = logs_home()
    return None if home is None else home / f"{run}{_SUFFIX}"


def logged_runs(pipeline: str) -> list[str]:
    """The ids of the runs of a pipeline that have a log, those that have ended too, the one that wrote last first."""
    home = logs_home()
    found = [] if home is None else _logs_in(home)
    return [path.name.removesuffix(_SUFFIX) for _, path in found if _pipeline_of(path) == pipeline]


def _logs_in(home: Path) -> list[tuple[float, Path]]:
    """The newest files of all runs, with the times at which they were written last; the last one first."""
    found: list[tuple[float, Path]] = []
    with suppress(OSError):
        for path in home.iterdir():
            if re.fullmatch(rf".+-\d+{re.escape(_SUFFIX)}", path.name):
                with suppress(OSError):
                    found.append((path.stat().st_mtime, path))
    return sorted(found, reverse=True)


def _pipeline_of(log: Path) -> str:
    return log.name.rpartition("-")[0]


def _remove_old(home: Path) -> None:
    """Remove the logs of runs that ended long ago, or before the last ones of their pipeline."""
    ended: Counter[str] = Counter()
    for written, path in _logs_in(home):
        with suppress(OSError), path.open("rb") as file:
            # A supervisor that lives has it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ended[_pipeline_of(path)] += 1
            if ended[_pipeline_of(path)] > _KEPT_RUNS or written < time.time() - _KEPT_S:
                path.with_name(path.name + _BEFORE).unlink(missing_ok=True)
                path.unlink()


class LogFile:
    """A file of lines that becomes its own predecessor when it is full.

    Args:
        path: of the newest file. What is there already is taken for the lines before.
        bound: bytes that a file has at most, apart from its last line.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, bound: int = _BOUND) -> None:
        self.path = path
        self._bound = bound
        self._lost = 0
        #: Lines that were written so far, into all files.
        self._written = 0
        #: Lines that could not be written so far.
        self.lost = 0
        with suppress(FileNotFoundError):
            self._turn_over()
        self._fd = self._made()

    def write(self, line: str) -> None:
        """Add a line. If that is not possible now, it is lost, and the next one that is added says so."""
        try:
            if self._fd < 0:
                self._fd = self._made()
            found = os.fstat(self._fd)
            if found.st_nlink == 0 or found.st_size >= self._bound:
                if found.st_nlink:
                    # It may have been moved away, and then has another name.
                    with suppress(FileNotFoundError):
                        self._turn_over()
                self.close()
                self._fd = self._made()
            if self._written and os.fstat(self._fd).st_size == 0:
                self._add(text_of_before(self._written), counts=False)
            if self._lost:
                self._add(missing_lines(self._lost, "they could not be written"))
                self._lost = 0
            self._add(line)
        except OSError:
            self._lost += 1
            self.lost += 1

    def close(self) -> None:
        """A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _turn_over(self) -> None:
        self.path.rename(self.path.with_name(self.path.name + _BEFORE))

    def _made(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def _add(self, line: str, *, counts: bool = True) -> None:
        text = f"{time_of(time.time())} {line}\n".encode(errors="backslashreplace")
        # A disk that is full takes a part of it, perhaps: the end of the line must not be missing for good.
        written = os.write(self._fd, text)
        if written < len(text):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError("no room")
        # An entry may be several lines.
        self._written += text.count(b"\n") if counts else 0


class RunLog:
    """What a run says: to operators, as the command line has it, and to the run's log, whatever it has.

    Args:
        log: for operators.
    """

    def __init__(self, log: OperatorLog) -> None:
        self.log = log
        self._file: LogFile | None = None
        self._phase = ""
        self._complaints = Complaints()
        #: What of `OperatorLog.complaint` was kept.
        self._complaint = ""

    @property
    def level_of_children(self) -> str:
        """The least level of what children say: the run's log has it from "info" on, whatever is shown."""
        return self.log.settings.level or "info"

    @property
    def settings(self) -> dict[str, Any]:
        """How it is written, as `LogSettings` by field: for the child that writes lines of its own form."""
        return cast("dict[str, Any]", msgspec.to_builtins(self.log.settings))

    def open(self, run: str) -> None:
        """From now on lines are kept, as those of the run with this id; what older runs have left is bounded."""
        self.log.run = run
        path = log_path(run)
        if path is None:
            return
        try:
            self._file = LogFile(path)
        except OSError as error:
            self("info", f"no log is kept: {path}: {error.strerror}")
            return
        self._keep(Entry("info", f"began as process {os.getpid()}", "supervisor"))
        _remove_old(path.parent)

    def __call__(self, level: str, text: str) -> None:
        """The supervisor itself says something."""
        self.pass_on(Entry(level, text, "supervisor"))

    def pass_on(self, entry: Entry) -> None:
        """The supervisor or a child says something."""
        self.log.take(entry)
        if self.log.complaint != self._complaint:
            self._complaint = self.log.complaint
            if self._complaint:
                # The other log cannot say why it is silent.
                self._keep(Entry("error", self._complaint, "supervisor"))
        # Kept from "info" on, also of a run of files, of which less is shown; but not a line for each request.
        if not entry.raw and (entry.level != "debug" or LEVELS[self.log.least] <= LEVELS["debug"]):
            self._keep(entry)

    def refused(self, why: str) -> None:
        """The supervisor has refused a message."""
        if shown := self._complaints.shown(why, time.monotonic_ns()):
            self("warning", shown)

    @property
    def lost_lines(self) -> int:
        """How many lines could not be written so far, of either log."""
        return self.log.lost + (0 if self._file is None else self._file.lost)

    def phase(self, now: str) -> None:
        """The run is in this phase of its life (see `supervision.Phase`), which is told when it begins."""
        if now != self._phase and (text := _PHASES.get(now)):
            # Of a run that serves it is the answer to a signal; a run of files goes through it by itself.
            self("note" if now == "draining" and self.log.least != "note" else "info", text)
        self._phase = now

    def reopen(self) -> None:
        """See `OperatorLog.reopen`."""
        self.log.reopen()

    def flush(self) -> None:
        """See `OperatorLog.flush`."""
        self.log.flush()

    def ended(self, code: int) -> int:
        """The run has ended with this exit code, which is returned."""
        self("info", f"{ENDED}{code}")
        return code

    def _keep(self, entry: Entry) -> None:
        if self._file is not None:
            for line in text_of(entry):
                self._file.write(line)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The process says it when nothing of the run is left.
        if isinstance(error, StartError):
            self._keep(Entry("error", str(error), "supervisor"))
        if self._file is not None:
            self._file.close()
