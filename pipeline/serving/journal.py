"""Journal: what the gateway tells operators, as its log settings say; and the trace settings."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping

from pipeline.kserve.settings import LOG_SETTINGS, TRACE_SETTINGS
from pipeline.logs.telling import tell

__all__ = ["Journal"]


class Journal:
    """See above."""

    def __init__(self) -> None:
        self.settings: Mapping[str, bool | int | str] = LOG_SETTINGS
        self.trace: Mapping[str, str | list[str]] = TRACE_SETTINGS

    def info(self, text: str) -> None:
        if self.settings["log_info"]:
            tell("info", text)

    def fault(self, what: str, error: BaseException) -> None:
        """A request has met a fault of ours."""
        if self.settings["log_error"]:
            text = f"{what}: {type(error).__name__}: {error}"
            # One that was never raised has no traceback.
            lines = traceback.format_exception(error) if error.__traceback__ else ()
            tell("error", text, traceback="".join(lines).rstrip())

    def request(self, what: str, status: int | str, begun_ns: int) -> None:
        """A request is over; told from log_verbose_level 1 on.

        Args:
            begun_ns: of time.perf_counter_ns.
        """
        if int(self.settings["log_verbose_level"]):
            tell("info", f"{what}: {status}, {(time.perf_counter_ns() - begun_ns) / 1e6:.2f} ms")
