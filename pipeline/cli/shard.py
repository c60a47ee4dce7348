"""Shard: the supervisor of one shard, which a front starts (see `pipeline.supervisor.front`).

It runs the plan that it is given, serves, and tells the front how far it is. It cannot outlive the front.
"""

from __future__ import annotations

import faulthandler
from functools import partial
from pathlib import Path

from pipeline.cli.descent import be_born, serve_below
from pipeline.processes.child import boot_line
from pipeline.supervisor.shard import Front, ShardLog, ShardOrigin
from pipeline.supervisor.supervisor import supervise

__all__ = ["main"]


def main() -> None:
    """Entry point of the process."""
    origin = ShardOrigin.read(boot_line())
    be_born(origin.parent, f"pipeline[{origin.plan.name}] shard {origin.number}")
    faulthandler.enable(all_threads=False)
    front = Front(Path(origin.front), origin.number, origin.parent, succeeds=origin.succeeds)
    serve_below(front, partial(_serve, origin, front))


def _serve(origin: ShardOrigin, front: Front) -> int:
    log = ShardLog(origin.number, origin.log, origin.plan.name)
    canary = ", the canary was answered" if origin.plan.canary and origin.succeeds else ""
    try:
        return supervise(
            origin.plan, log=log, root=front, on_ready=lambda folder: front.ready(f"every stage is ready{canary}")
        )
    finally:
        log.close()


if __name__ == "__main__":
    main()
