"""Birth: what a child is given when it is spawned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.interpreter import NO_MATRICES
from pipeline.processes.child import Boot
from pipeline.supervisor.instructions import Child
from shm.segment import Segment

__all__ = ["boot_of", "environment_of"]


def boot_of(child: Child, run_dir: Path, made: Sequence[Segment], extra: Mapping[str, Any], log_level: str) -> Boot:
    """The boot document of a child of this process.

    Args:
        run_dir: the run's folder.
        made: the run's segments.
        extra: values that only this child needs.
        log_level: the least level of what it says.
    """
    return Boot(
        plan=child.plan,
        run_dir=run_dir,
        epoch=child.epoch,
        segments=tuple(segment.address for segment in made),
        title=child.title,
        own_terminal=child.role.own_terminal,
        posts=child.posts,
        replica=child.replica,
        extra=dict(extra),
        parent=os.getpid(),
        log_level=log_level,
    )


def environment_of(child: Child) -> Mapping[str, str]:
    """The variables that a child gets beside the supervisor's own: those of its role; a worker's are those of its place
    in the plan, and the stage's own `env`."""
    if not child.posts:
        return {**NO_MATRICES, **dict(child.role.variables)}
    placed = child.plan.stages[child.posts[0].stage].workers[child.replica]
    # Libraries that size their thread pools at import look here; the stage's own env wins.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(placed.threads))
    return {**threads, **placed.env}
