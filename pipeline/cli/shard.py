"""Shard: the supervisor of one shard, which a front starts (see `pipeline.supervisor.front`).

It runs the plan that it is given, serves, and tells the front how far it is. It cannot outlive the front.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from pathlib import Path

import setproctitle

from pipeline.errors import StartError
from pipeline.processes.child import SHARED_SIGNALS, boot_line, hold_lifeline
from pipeline.streams import prepare_streams, settle_streams
from pipeline.supervisor.shard import Front, ShardLog, ShardOrigin
from pipeline.supervisor.signals import end_before_start
from pipeline.supervisor.supervisor import supervise
from pipeline.topology.refusals import is_refusal, refusal_of

__all__ = ["main"]

_START = 3


def main() -> None:
    """Entry point of the process."""
    origin = ShardOrigin.read(boot_line())
    hold_lifeline(origin.parent)
    prepare_streams()
    setproctitle.setproctitle(f"pipeline[{origin.plan.name}] shard {origin.number}")
    # It was born with these signals blocked: until now it would have died of them.
    end_before_start(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SHARED_SIGNALS)
    faulthandler.enable(all_threads=False)
    front = Front(Path(origin.front), origin.number, origin.parent, succeeds=origin.succeeds)
    log = ShardLog(origin.number, origin.log, origin.plan.name)
    canary = ", the canary was answered" if origin.plan.canary and origin.succeeds else ""
    try:
        code = supervise(
            origin.plan, log=log, root=front, on_ready=lambda folder: front.ready(f"every stage is ready{canary}")
        )
    except StartError as error:
        front.failed(str(error))
        code = _START
    except OSError as error:
        if not is_refusal(error):
            raise
        front.failed(refusal_of(error))
        code = _START
    finally:
        front.close()
        log.close()
    settle_streams()
    sys.exit(code)


if __name__ == "__main__":
    main()
