"""Descent: how the supervisor of a later version and that of a shard begin and end, which a supervisor has started."""

from __future__ import annotations

import atexit
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import setproctitle

from pipeline.errors import ConfigError, StartError
from pipeline.processes.child import SHARED_SIGNALS, hold_lifeline
from pipeline.streams import prepare_streams, settle_streams
from pipeline.supervisor.signals import end_before_start
from pipeline.supervisor.successors import Root
from pipeline.topology.refusals import is_refusal, refusal_of
from pipeline.wire.links import leave
from stages.errors import ModelError

__all__ = ["be_born", "serve_below"]

_CONFIG, _START = 2, 3


def be_born(parent: int, title: str) -> None:
    """Take the first steps of such a process: from now on it cannot outlive its parent, and signals are heard.

    Args:
        parent: the pid of the supervisor that has started it.
        title: as `ps` shows it.
    """
    hold_lifeline(parent)
    prepare_streams()
    setproctitle.setproctitle(title)
    # It was born with these signals blocked: until now it would have died of them.
    end_before_start(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SHARED_SIGNALS)
    # Why it cannot start is still on its way when it ends.
    atexit.register(leave)


def serve_below(root: Root, serve: Callable[[], int]) -> NoReturn:
    """Serve to the end, and exit with its code. If the run cannot start, `root` is told why."""
    try:
        code = serve()
    except (ConfigError, StartError, ModelError) as error:
        root.failed(str(error))
        code = _CONFIG if isinstance(error, ConfigError) else _START
    except OSError as error:
        if not is_refusal(error):
            raise
        root.failed(refusal_of(error))
        code = _START
    finally:
        root.close()
    settle_streams()
    sys.exit(code)
