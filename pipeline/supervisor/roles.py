"""Roles: the kinds of children that a run has, one row each.

A new kind of process is one row here and one file, its `main()`. The supervisor knows no more of it than its row says:
how it is spawned, when the run is ready, what its death means, and how it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec

from pipeline.graph.plan import Plan, Post
from pipeline.processes.child import DONE_WITH_FAILURES

__all__ = ["ACCESS", "DONE", "FEEDER", "PLANNER", "ROLES", "TRIAL", "Place", "Restart", "Role"]


#: Of glibc: blocks of 128 KiB and more lie apart and go back to the kernel, as it says they do. By itself it ends that
#: as soon as a picture was freed. Then the key frames among a camera's packets leave holes between the others.
_LARGE_BLOCKS_ALONE = ("MALLOC_MMAP_THRESHOLD_", "131072")


class Restart(Enum):
    """What follows the death of a child in a run that is ready."""

    NEVER = "it is not started again"
    SOON = "it is started again after 0.1 s, as often as it dies"
    STAGE = "it is a worker: its orders run again, and it is started again as its stage's `restart` says"
    EPOCH = "it is the scheduler: the run gets new segments and another scheduler, unless it dies too often"


class Place(NamedTuple):
    """One child that a run must have."""

    title: str
    """For people, logs and `ps`: "scheduler", "detect/0"."""
    posts: tuple[Post, ...] = ()
    """The workers in this process, numbered from 0; none if it has another role."""
    replica: int = 0


class Role(msgspec.Struct, frozen=True):
    """One row: a kind of child."""

    title: str
    """Its name in one word, which is also the kind of its children's addresses."""
    module: str
    """Of the function `main()` that the child runs."""
    restart: Restart
    gates_ready: bool
    """The run is ready only once each of these children has said `Ready`."""
    ends_run: bool
    """The run ends once no such child is left, with the worst of their exit codes. A signal lets them finish first."""
    places: Callable[[Plan, bool], list[Place]]
    """(plan, whether files are fed) -> the children of this kind."""
    listens: bool = False
    """It takes the supervisor's messages, and is told to stop. The others are killed at the end, or see `closes`."""
    own_terminal: bool = False
    """It prints to the user's terminal itself, and SIGTERM is its own to handle."""
    ends: bool = False
    """It ends by itself once it has done all that it had to, with a code of `DONE`, and is not started again then. If
    the plan says so, the run ends with the last child of such roles."""
    closes: bool = False
    """It has files to close: at the end it is sent SIGTERM, and killed only if it does not end."""
    observes: bool = False
    """It is told which requests have ended, from the first one on."""
    gates_takeover: bool = False
    """A new version takes over from the run that serves only once this child has said `Ready` as well."""
    variables: tuple[tuple[str, str], ...] = ()
    """Of its environment, beside the supervisor's own."""


def _scheduler(plan: Plan, fed: bool) -> list[Place]:
    return [Place("scheduler")]


def _workers(plan: Plan, fed: bool) -> list[Place]:
    places = []
    records = 0
    for stages in plan.processes:
        for replica, placed in enumerate(plan.stages[stages[0]].workers):
            posts = tuple(Post(at, stage, records + at) for at, stage in enumerate(stages))
            places.append(Place(placed.title, posts, replica))
            records += len(stages)
    return places


def _feeder(plan: Plan, fed: bool) -> list[Place]:
    return [Place("feeder")] if fed else []


def _canary(plan: Plan, fed: bool) -> list[Place]:
    # If files are fed, their requests say how the stages are.
    return [Place("canary")] if plan.canary is not None and not fed else []


def _exporter(plan: Plan, fed: bool) -> list[Place]:
    # A run of files ends by itself; beside the same pipeline that serves, it would want the same port.
    return [Place("exporter")] if plan.metrics is not None and not fed else []


def _tracer(plan: Plan, fed: bool) -> list[Place]:
    return [Place("tracer")] if plan.tracing is not None else []


def _sources(plan: Plan, fed: bool) -> list[Place]:
    # A run of files takes none but those.
    return [] if fed else [Place(f"source/{camera.name}", (), number) for number, camera in enumerate(plan.cameras)]


DONE = {0: 0, DONE_WITH_FAILURES: 1}
"""Exit code of a child that was done -> what the run's may not be below."""

FEEDER = Role(
    "feeder", "pipeline.processes.feeder", Restart.NEVER,
    gates_ready=False, ends_run=True, places=_feeder, own_terminal=True,
)  # fmt: skip

ACCESS = Role(
    "access", "pipeline.processes.access", Restart.SOON,
    gates_ready=False, ends_run=False, places=lambda plan, fed: [Place("access")], listens=True, observes=True,
)  # fmt: skip
"""Of a run with an access log."""

PLANNER = Role(
    "planner", "pipeline.cli.planner", Restart.NEVER, gates_ready=False, ends_run=False, places=lambda plan, fed: [],
)  # fmt: skip
"""For a moment, before a stage's workers are replaced: it reads the config anew (see `rolling`)."""

TRIAL = Role(
    "trial", "pipeline.processes.canary", Restart.NEVER, gates_ready=False, ends_run=False, places=lambda plan, fed: [],
)  # fmt: skip
"""Meanwhile, if the plan has a canary: it tries each new worker."""

ROLES = (
    Role(
        "scheduler", "pipeline.processes.scheduler", Restart.EPOCH,
        gates_ready=True, ends_run=False, places=_scheduler, listens=True,
    ),
    Role(
        "worker", "pipeline.processes.worker", Restart.STAGE,
        gates_ready=True, ends_run=False, places=_workers, listens=True,
    ),
    FEEDER,
    Role(
        "canary", "pipeline.processes.canary", Restart.SOON,
        gates_ready=False, ends_run=False, places=_canary, gates_takeover=True,
    ),
    Role(
        "exporter", "pipeline.processes.exporter", Restart.SOON,
        gates_ready=False, ends_run=False, places=_exporter,
    ),
    Role(
        "tracer", "pipeline.processes.tracer", Restart.SOON,
        gates_ready=False, ends_run=False, places=_tracer, listens=True, observes=True,
    ),
    Role(
        "source", "pipeline.processes.source", Restart.SOON,
        gates_ready=False, ends_run=False, places=_sources, ends=True, closes=True,
        variables=(_LARGE_BLOCKS_ALONE,),
    ),
)  # fmt: skip
"""The kinds that every run has, if its plan asks for them, in the order in which their children are started."""
