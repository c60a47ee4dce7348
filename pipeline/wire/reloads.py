"""The messages of reloads, between supervisors, what asks them and what they ask; `messages` draws who sends which."""

from __future__ import annotations

from pipeline.wire.message import Message, tag_of
from pipeline.wire.records import Record
from pipeline.wire.status import ReloadsStatus

__all__ = ["TRIAL", "HandOver", "Interrupted", "Planned", "Reload", "ReloadStep", "Reloads", "StageChange", "Trial"]

TRIAL = "trial canary"
"""The name of the client whose requests reach a worker on trial."""


class Reload(Message, frozen=True, tag=tag_of(50)):
    """Start a new version of the pipeline beside this one, and let it take over; or replace the workers of one stage.
    Answered by `ReloadStep`s."""

    client: int
    """Who asks: its inbox is where clients have theirs."""
    config: str
    """Path of the YAML file; empty: as the version that serves was started, with `assignments` behind its own."""
    assignments: tuple[str, ...]
    """As `--set` takes them."""
    limit_s: float
    """After so many seconds without success the new version, or a new worker, is given up."""
    stage: str = ""
    """The stage whose workers alone are replaced, in the run that serves; empty: the whole pipeline. The root passes
    such a message on, to the supervisor of the version that serves, with the config and the assignments of that."""


class ReloadStep(Message, frozen=True, tag=tag_of(51)):
    """How far a reload is. From the supervisor of the new version to that which has started it, and from there to the
    process that has asked."""

    version: int
    """Which start of a new version; the first is 1. 0: none was started."""
    step: str
    """A `Milestone`."""
    text: str
    """For people. "failed": why."""
    folder: str = ""
    """The path of the new version's run folder, once that is there."""
    replaced: int = 0
    """Of a stage alone: how many of its workers are of the new version by now."""
    workers: int = 0
    """Of a stage alone: how many it has."""
    outcome: str = ""
    """One of `pipeline.wire.status.OUTCOMES`, if this is the last step of a stage's reload."""


class HandOver(Message, frozen=True, tag=tag_of(52)):
    """The receiver's run has been replaced: it must send its clients to `successor` (`Answers`), drain, and end."""

    successor: str


class Interrupted(Message, frozen=True, tag=tag_of(53)):
    """A signal that asks to stop has come to the root. It is not passed on as a signal: the supervisor may have got the
    same one itself, as systemd sends it to all processes, and would take the other one for a second request."""

    again: bool
    """It is the second one: the receiver must stop at once."""


class StageChange(Record, frozen=True):
    """What is new about a stage whose workers are replaced; all else of it is as before."""

    stage: int
    use: str
    options: str
    """JSON."""


class Planned(Message, frozen=True, tag=tag_of(57)):
    """From the planner, which has read the config anew, to the supervisor that has started it."""

    changes: tuple[StageChange, ...] = ()
    """Of each stage that the workers have."""
    note: str = ""
    """For people: what else has changed, and is not taken over; empty: nothing."""
    refusal: str = ""
    """For people: why no worker can be replaced; empty: they can."""


class Trial(Message, frozen=True, tag=tag_of(58)):
    """From the supervisor to the scheduler: the worker gets the requests of the trial canary alone, and that gets no
    other worker of the stage; once the trial is over, the worker is one like any other. Its `Ready` may still be on
    its way."""

    worker: int
    stage: int
    over: bool


class Reloads(Message, frozen=True, tag=tag_of(59)):
    """From the root to the supervisor of the later version that serves, at each change: what its scheduler must know of
    reloads, for people and metrics."""

    status: ReloadsStatus
