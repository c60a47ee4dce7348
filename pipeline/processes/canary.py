"""The canary process: sends a known good request now and then while the pipeline serves.

What it finds out is read from the requests themselves: the scheduler knows when each stage last answered one. It is a
client like any other, with a request of its own and no other right.

A new version of a pipeline takes over only once its canary was answered. So it tells its supervisor of the first
answer, and ends if there is an error instead. The same holds of a worker that is on trial: the scheduler gives it the
requests of a canary of its own, the trial canary, and no others.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pipeline.client.client import Client
from pipeline.errors import DeadlineExceeded, Overloaded, RequestError, Unavailable
from pipeline.feeding.feed import Feed
from pipeline.feeding.sources import Intake, Sources
from pipeline.logs.telling import tell
from pipeline.processes.child import boot
from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import connect
from pipeline.wire.messages import Ready

__all__ = ["main"]

#: They say how much there is to do, and nothing of what the stages do: beside a load, the trial goes on.
_BUSY = (Overloaded.code, DeadlineExceeded.code)


class _Canary(Client):
    _follows = False


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    plan = boot_.plan.canary
    assert plan is not None
    if not Path(plan.input).is_file():
        tell("error", f"no canary: {plan.input} is not a file")
    complained = ""
    supervisor, told = connect(boot_.run_dir, SUPERVISOR), False
    intake = Intake(boot_.plan.inputs, config=Path(boot_.plan.config_path).name)
    while True:
        try:
            with _Canary.connect(boot_.run_dir, name=boot_.extra.get("name", "canary")) as client:
                while True:
                    # Of a file of many lines the first.
                    (record,) = Feed(client, Sources(intake, [plan.input], limit=1), intake).run()
                    complaint = "" if record.error is None else f"{record.error[0]}: {record.error[1]}"
                    # Once for each new reason: a broken pipeline must not fill the log.
                    busy = record.error is not None and record.error[0] in _BUSY
                    ends = bool(complaint) and boot_.extra["gates"] and not busy
                    if complaint and complaint != complained:
                        tell("warning", f"the canary request failed: {complaint}", last=ends)
                    complained = complaint
                    if ends:
                        sys.exit(1)
                    if not complaint and not told:
                        told = True
                        supervisor.send(Ready(-1, -1, 0, os.getpid(), boot_.epoch))
                        if boot_.extra.get("once"):
                            supervisor.close(linger_ms=1000)
                            return
                    time.sleep(plan.every_s)
        except (Unavailable, RequestError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
