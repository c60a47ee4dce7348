"""Successor: the supervisor of a new version, which the root of a reload starts (see `pipeline.supervisor.successors`).

It does what `pipeline run CONFIG --serve` does, and tells the root how far it is. It cannot outlive the root.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import setproctitle

from pipeline.cli.run import pull_models, run_in_processes
from pipeline.config.loader import load_version
from pipeline.errors import ConfigError, StartError
from pipeline.logs.log import OperatorLog
from pipeline.processes.child import SHARED_SIGNALS, boot_line, hold_lifeline
from pipeline.streams import prepare_streams, settle_streams
from pipeline.supervisor.signals import end_before_start
from pipeline.supervisor.succession import Launch
from pipeline.supervisor.successors import Origin, Root
from pipeline.topology.refusals import is_refusal, refusal_of
from stages.errors import ModelError

__all__ = ["main"]

_CONFIG, _START = 2, 3


def main() -> None:
    """Entry point of the process."""
    origin = Origin.read(boot_line())
    hold_lifeline(origin.parent)
    prepare_streams()
    setproctitle.setproctitle(f"pipeline[{origin.name}] supervisor")
    # It was born with these signals blocked: until now it would have died of them.
    end_before_start(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SHARED_SIGNALS)
    root = Root(Path(origin.root), origin.version, origin.parent)
    try:
        code = _serve(origin, root)
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


def _serve(origin: Origin, root: Root) -> int:
    loaded = load_version(origin.config, origin.assignments, origin.name)
    pull_models(loaded)
    log = OperatorLog(origin.log, pipeline=origin.name)
    try:
        return run_in_processes(loaded, None, launch=Launch(origin.config, origin.assignments), root=root, log=log)
    finally:
        log.close()


if __name__ == "__main__":
    main()
