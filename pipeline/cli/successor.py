"""Successor: the supervisor of a new version, which the root of a reload starts (see `pipeline.supervisor.successors`).

It does what `pipeline run CONFIG --serve` does, and tells the root how far it is. It cannot outlive the root.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.cli.descent import be_born, serve_below
from pipeline.cli.run import pull_models, run_in_processes
from pipeline.config.loader import load_version
from pipeline.logs.log import OperatorLog
from pipeline.processes.child import boot_line
from pipeline.supervisor.succession import Launch
from pipeline.supervisor.successors import Origin, Root

__all__ = ["main"]


def main() -> None:
    """Entry point of the process."""
    origin = Origin.read(boot_line())
    be_born(origin.parent, f"pipeline[{origin.name}] supervisor")
    root = Root(Path(origin.root), origin.version, origin.parent)
    serve_below(root, partial(_serve, origin, root))


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
