"""Sharding: which shards of a front run, which is started again, and when it is over. Pure.

The *front* is the supervisor of a pipeline that is divided into shards: its children are the supervisors of the shards,
each of a run of its own. Events and times in, a list of instructions out; `pipeline.supervisor.front` carries it out.

                      interrupt / replaced                       no shard is left
              all ready                                     or too late: killed
    STARTING ───────────▶ RUNNING ─────────────▶ DRAINING ──────────────────────▶ STOPPED
        │  a shard fails, or an interrupt               or a shard has         ▲
        │                                               died too often         │
        └────────────────────────▶ STOPPING ◀── a second interrupt             │
                                       └────────────────────────────────────────┘

A shard that dies in a run that is ready touches its own clients alone: it is started again, as another run, and they
are put into any shard, as new ones are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.supervisor.instructions import Log
from pipeline.supervisor.phase import Phase
from pipeline.supervisor.supervision import ONE_REQUEST_S, STOPPED_EARLY
from pipeline.wire.messages import Milestone, ReloadStep

__all__ = [
    "HandOverShard", "Instruction", "KillShard", "Lead", "PassOnTo", "PingShard", "Shard", "Sharding", "StartShard",
    "number_of", "version_of",
]  # fmt: skip

_DELAYS_S = (0.1, 0.1, 1.0, 2.0, 5.0)
"""How long after its death a shard is started again, by how many of that front died within the window before."""
_WINDOW_S = 60.0
_STOP_GRACE_S = 5.0
_MOST_SHARDS = 64


def version_of(shard: int) -> int:
    """The version number in the messages of a shard: none that a reload gives."""
    return -1 - shard


def number_of(version: int) -> int:
    """The reverse of `version_of`; negative: it is of no shard."""
    return -1 - version


@dataclass(slots=True)
class Shard:
    """The supervisor of a shard, from its start to its end."""

    number: int
    ready: bool = False
    folder: str = ""
    """Of its run; empty until it is there."""
    failure: str = ""
    """Why it does not start, in its own words."""
    killed: bool = False
    """It is killed by the front: its exit code means nothing."""


class StartShard(NamedTuple):
    """Start its supervisor."""

    number: int


class PassOnTo(NamedTuple):
    """Tell the supervisor of a shard, by a message, that a signal asks to stop."""

    number: int
    again: bool


class KillShard(NamedTuple):
    """Kill the supervisor of a shard; its children end by their lifelines."""

    number: int


class HandOverShard(NamedTuple):
    """A shard must send its clients to the folder of this name, drain, and end."""

    number: int
    successor: str


class PingShard(NamedTuple):
    """Ask a shard whether it is well."""

    number: int
    ping: int


class Lead(NamedTuple):
    """From now on clients that are put into this shard go to the run in `folder`."""

    number: int
    folder: str


Instruction = StartShard | PassOnTo | KillShard | HandOverShard | PingShard | Lead | Log


class Sharding:
    """The shards of one front. Each event gives a list of instructions, to be carried out in that order.

    Args:
        count: how many there are.
        drain_s: how long the drain of each may take.
    """

    def __init__(self, count: int, drain_s: float) -> None:
        self._count = count
        self._drain_s = drain_s
        self.phase = Phase.STARTING
        #: Those that live, by number.
        self.children: dict[int, Shard] = {}
        self._deaths: deque[float] = deque()
        #: (when, number) of those that will be started again.
        self._respawns: list[tuple[float, int]] = []
        self._give_up_at: float | None = None
        #: When the signal came that a later one may only repeat.
        self._interrupted_at: float | None = None
        #: The last ping, and the shards that have not answered it.
        self._asked = 0
        self._silent: set[int] = set()
        #: As `Supervision.exit_code`.
        self.exit_code = 0
        #: Why it could not start; for people.
        self.failure: str | None = None

    # -- events ---------------------------------------------------------------------------------

    def start(self) -> list[Instruction]:
        """Begin: start every shard at once."""
        return [self._spawn(number) for number in range(self._count)]

    def told(self, step: ReloadStep) -> list[Instruction]:
        """A shard says how far its start is."""
        shard = self.children.get(number_of(step.version))
        if shard is None:
            return []
        if step.step == Milestone.FAILED:
            shard.failure = shard.failure or step.text
        elif step.step == Milestone.STARTED:
            shard.folder = step.folder
            return [Lead(shard.number, step.folder)]
        elif step.step == Milestone.READY and not shard.ready:
            shard.ready = True
            if self.phase is Phase.STARTING and len(self._ready()) == self._count:
                self.phase = Phase.RUNNING
                return [Log("info", f"ready: {self._count} shards")]
        return []

    def exited(self, number: int, code: int, how: str, now: float) -> list[Instruction]:
        """The supervisor of a shard has ended, and all of its run with it.

        Args:
            code: its exit code; negative: the signal that killed it.
            how: the same for people.
            now: monotonic seconds.
        """
        shard = self.children.pop(number, None)
        if shard is None:
            return []
        how = shard.failure or how
        instructions: list[Instruction] = []
        if self.phase is Phase.STARTING:
            self.failure = f"shard {number} could not start: {how}"
            instructions = self._stop(3)
        elif self.phase is Phase.RUNNING:
            instructions = self._died(number, how, now)
        elif self.phase is Phase.DRAINING and code and not shard.killed:
            self.exit_code = self.exit_code or 1
            instructions = [Log("warning", f"shard {number} has not finished all that it had: {how}")]
        self._end_without_children()
        return instructions

    def unborn(self, number: int, why: str, now: float) -> list[Instruction]:
        """The supervisor of a shard could not be started."""
        return self.exited(number, 1, f"it could not be started: {why}", now)

    def interrupted(self, now: float, *, hangup: bool = False) -> list[Instruction]:
        """A signal asks to stop; as `Supervision.interrupted`."""
        again = not hangup and self._interrupted_at is not None and now - self._interrupted_at >= ONE_REQUEST_S
        if not hangup and self._interrupted_at is None:
            self._interrupted_at = now
        if again:
            return self.interrupted_again(now)
        if self.phase is Phase.STARTING:
            return [Log("info", STOPPED_EARLY), *self._stop(0)]
        return self._drain(now, [PassOnTo(shard.number, False) for shard in self._ready()])

    def interrupted_again(self, now: float) -> list[Instruction]:
        """The second of such signals, here or at the root: what is under way is not finished."""
        if self.phase in (Phase.STOPPING, Phase.STOPPED):
            return []
        ready = self._ready()
        stop = self._stop(self.exit_code or 1, spared={shard.number for shard in ready})
        self._give_up_at = now + _STOP_GRACE_S
        return [Log("warning", "stopping at once"), *[PassOnTo(shard.number, True) for shard in ready], *stop]

    def abandoned(self) -> list[Instruction]:
        """The program that has started the run is gone, or wants it to end now."""
        if self.phase is Phase.STOPPED:
            return []
        return self._stop(self.exit_code or 1)

    def replaced(self, successor: str, now: float) -> list[Instruction]:
        """A new version has taken over: the shards send their clients to the folder `successor`, and drain."""
        return self._drain(now, [HandOverShard(shard.number, successor) for shard in self._ready()])

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed."""
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            self.exit_code = self.exit_code or 1
            left = ", ".join(f"shard {number}" for number in self.children)
            return [Log("warning", f"killed, since it did not end: {left}"), *self._kill(self.children)]
        if self.phase is not Phase.RUNNING:
            return []
        due = [number for when, number in self._respawns if when <= now]
        self._respawns = [respawn for respawn in self._respawns if respawn[0] > now]
        return [self._spawn(number) for number in due]

    @property
    def wake_at(self) -> float | None:
        """When `tick` has something to do: monotonic seconds."""
        times = [self._give_up_at, *[when for when, _ in self._respawns]]
        return min([at for at in times if at is not None], default=None)

    # -- whether it is well -----------------------------------------------------------------------

    @property
    def answers(self) -> bool:
        """Whether there is a shard that must answer; one that is started again has none to ask."""
        return self.phase in (Phase.RUNNING, Phase.DRAINING) and bool(self._ready())

    def ask(self, number: int) -> list[Instruction]:
        """Ask each shard whether it is well."""
        self._asked = number
        self._silent = {shard.number for shard in self._ready()}
        return [PingShard(shard, number * _MOST_SHARDS + shard) for shard in sorted(self._silent)]

    def answered(self, pong: int) -> int | None:
        """A shard has answered; the number that was asked by, once each shard has that lives."""
        number, shard = divmod(pong, _MOST_SHARDS)
        if number != self._asked:
            return None
        self._silent.discard(shard)
        return None if self._silent & self.children.keys() else number

    # -- steps ------------------------------------------------------------------------------------

    def _ready(self) -> list[Shard]:
        return [shard for shard in self.children.values() if shard.ready]

    def _spawn(self, number: int) -> StartShard:
        self.children[number] = Shard(number)
        return StartShard(number)

    def _died(self, number: int, how: str, now: float) -> list[Instruction]:
        deaths = self._deaths
        deaths.append(now)
        while deaths[0] < now - _WINDOW_S:
            deaths.popleft()
        if len(deaths) > len(_DELAYS_S):
            self.exit_code = 1
            log = Log("error", f"shard {number} died: {how}; shards died {len(deaths)} times within {_WINDOW_S:g} s")
            return [log, *self._drain(now, [PassOnTo(shard.number, False) for shard in self._ready()])]
        delay = _DELAYS_S[len(deaths) - 1]
        self._respawns.append((now + delay, number))
        return [Log("error", f"shard {number} died ({how}); started again in {delay:g} s")]

    def _drain(self, now: float, ends: Sequence[PassOnTo | HandOverShard]) -> list[Instruction]:
        if self.phase is not Phase.RUNNING:
            return []
        self.phase = Phase.DRAINING
        self._respawns.clear()
        # The shards give up first, and tell their clients; this is in case one does not.
        self._give_up_at = now + self._drain_s + 2 * _STOP_GRACE_S
        starting = [number for number, shard in self.children.items() if not shard.ready]
        instructions = [*ends, *self._kill(starting)]
        self._end_without_children()
        return instructions

    def _stop(self, exit_code: int, spared: Collection[int] = ()) -> list[Instruction]:
        self.phase = Phase.STOPPING
        self.exit_code = exit_code
        self._respawns.clear()
        self._give_up_at = None
        instructions = self._kill([number for number in self.children if number not in spared])
        self._end_without_children()
        return instructions

    def _kill(self, numbers: Collection[int]) -> list[Instruction]:
        for number in numbers:
            self.children[number].killed = True
        return [KillShard(number) for number in numbers]

    def _end_without_children(self) -> None:
        if not self.children and self.phase in (Phase.DRAINING, Phase.STOPPING):
            self.phase = Phase.STOPPED
            self._give_up_at = None
