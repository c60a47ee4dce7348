"""Signals: how a benchmark ends if it is told to."""

from __future__ import annotations

import signal
import sys

__all__ = ["end_on_sigterm"]


def end_on_sigterm() -> None:
    """From now on SIGTERM, which `timeout` sends, is raised as SystemExit: the pipeline that was started is stopped."""
    signal.signal(signal.SIGTERM, _end)


def _end(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)
