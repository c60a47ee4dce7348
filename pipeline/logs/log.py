"""Log: the one path of all that a run, or `pipeline serve`, says to operators: filtered, in its form, to its outlet."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.logs.entry import LEVELS, Entry
from pipeline.logs.forms import ROOTS, json_of, text_of, time_of
from pipeline.logs.outlet import Outlet
from pipeline.logs.settings import LogSettings

__all__ = ["OperatorLog"]

_COLOURS = {"critical": "31", "error": "31", "warning": "33"}


class OperatorLog:
    """Writes entries. Threads may share it.

    Args:
        settings: see there.
        pipeline: its name; "" for `pipeline serve`.
        process: the title of this process.
        least: the least level that is written if the settings do not say.
        clock: seconds since 1970.

    Raises:
        ConfigError: the file that the settings name cannot be opened.
    """

    def __init__(
        self,
        settings: LogSettings = LogSettings(),  # noqa: B008 (it cannot change)
        *,
        pipeline: str = "",
        process: str = "supervisor",
        least: str = "info",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        #: The least level that is written.
        self.least = settings.level or least
        #: The id of the run, once there is one.
        self.run = ""
        self._pipeline = pipeline
        self._process = process
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._outlet = Outlet(Path(settings.file) if settings.file else None, self._missing)
        except OSError as error:
            raise ConfigError(
                f"--log-file {settings.file}: expected a file that can be added to, found: {error.strerror}; make its "
                f"folder, or name another file"
            ) from error
        self._coloured = self._outlet.is_terminal and "NO_COLOR" not in os.environ

    @property
    def lost(self) -> int:
        """Lines that could not be written so far."""
        return self._outlet.lost

    @property
    def complaint(self) -> str:
        """Why nothing can be written to the file now, as stderr was told; "": it can."""
        return self._outlet.complaint

    def __call__(self, level: str, text: str) -> None:
        """This process itself says something."""
        self.take(Entry(level, text, self._process))

    def take(self, entry: Entry) -> None:
        """Write an entry, if it is grave enough. Of records of a stage's own `logging` the worker has decided. What
        stages print has no level, and is always written: the trace that a crash in C leaves is among it."""
        if LEVELS[entry.level] < LEVELS[self.least] and not (entry.printed or entry.logger or entry.raw):
            return
        with self._lock:
            for line in self._formed(entry):
                self._outlet.write(line)

    def pass_on(self, pipeline: str, lines: Sequence[str]) -> None:
        """Lines of a run that this process has started, whose log has this one's form and level.

        Args:
            pipeline: its name.
            lines: as it has written them.
        """
        is_json = self.settings.format == "json"
        with self._lock:
            for line in lines:
                if is_json and line.startswith("{"):
                    self._outlet.write(line)
                elif is_json:
                    # What breaks the run before it has a log, such as an error in its config.
                    entry = Entry("info", line, "supervisor", printed=True)
                    self._outlet.write(json_of(entry, self._clock(), pipeline))
                else:
                    self._outlet.write(f"{self._time()}{pipeline} | {line}")

    def _formed(self, entry: Entry) -> list[str]:
        if entry.raw:
            return [entry.text]
        if self.settings.format == "json":
            return [json_of(entry, self._clock(), self._pipeline, self.run)]
        lines = [f"{self._time()}{line}" for line in text_of(entry)]
        if entry.level == "note" and self._outlet.is_terminal:
            # The answer to Ctrl-C begins a line of its own, after ^C and a progress bar.
            lines[0] = "\n" + lines[0]
        if self._coloured and entry.process in ROOTS and (colour := _COLOURS.get(entry.level)):
            lines = [f"\x1b[{colour}m{line}\x1b[0m" for line in lines]
        return lines

    def _time(self) -> str:
        # A terminal needs none; systemd and container runtimes write their own beside each line of stderr.
        return "" if self.settings.for_people else f"{time_of(self._clock())} "

    def _missing(self, count: int) -> str:
        entry = Entry("warning", f"{count} lines are missing here: they could not be written", self._process)
        return "\n".join(self._formed(entry))

    def reopen(self) -> None:
        """The file was moved away, as log rotation does: go on in a new one. SIGUSR1 asks for it."""
        with self._lock:
            self._outlet.reopen()

    def flush(self) -> None:
        """Write what waits for a slow reader of stderr, as far as it takes it now. To be called now and then."""
        with self._lock:
            self._outlet.flush()

    def close(self) -> None:
        """Nothing more is written. What waits for a slow reader has a second."""
        with self._lock:
            self._outlet.close()
