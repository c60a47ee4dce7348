"""Truth: what all gateways of one `pipeline serve` must show alike, and which of them runs. Pure.

What clients can change (models, regions, log and trace settings) is the keeper's. Events and times in, a list of
instructions out, in the order in which they must be carried out; `pipeline.keeping` carries them out.

    a gateway    Start ──▶ hello ──▶ Tell everything, Complete ──▶ ready ──▶ died ──▶ Start, after a while
    a change     change ──▶ Tell each gateway that has said hello ──▶ confirmed by each of them, or it died ──▶ Settle

So the caller of a change has its answer once no gateway shows anything else; one that is started meanwhile opens its
ports only after it was told everything. A gateway that is alive and does not confirm in time is killed, so that no
caller waits for ever: what it would show is not the truth.

Counts are sums over all gateways. Each says its own when it is asked and now and then; those of one that died are kept
as it last said them, so what it did after that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pipeline.errors import KserveError
from pipeline.kserve.settings import LOG_SETTINGS, TRACE_SETTINGS, RegionEntry, changed_log, changed_trace
from pipeline.metrics.traffic import Traffic, merged
from pipeline.serving.counts import Counts
from pipeline.serving.frames import (
    VERSION,
    Complete,
    Drain,
    Frame,
    LogTold,
    ModelGone,
    ModelTold,
    RegionGone,
    RegionTold,
    Report,
    TraceTold,
)

__all__ = [
    "CONFIRM_S", "Fail", "Instruction", "Kill", "Say", "Serving", "Settle", "Start", "Tell", "Truth", "checked_trace",
]  # fmt: skip

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
#: One that has served for so long is started again without delay when it dies.
_SOUND_S = 5.0
#: Seconds in which a gateway must be ready, and confirm a change.
_START_S = 60.0
CONFIRM_S = 20.0


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a frame to a gateway; with a RegionTold goes the descriptor of that region."""

    gateway: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class Settle:
    """Every gateway shows the change of this revision, or has said its counts."""

    revision: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start a gateway."""

    gateway: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a gateway at once."""

    gateway: int


@dataclass(frozen=True, slots=True)
class Serving:
    """For the first time all gateways are ready."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Serving cannot begin."""

    why: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell operators."""

    text: str
    level: str = "info"


Instruction: TypeAlias = Tell | Settle | Start | Kill | Serving | Fail | Say


def checked_trace(
    current: Mapping[str, str | list[str]], change: Mapping[str, str | list[str] | None]
) -> dict[str, str | list[str]]:
    """The trace settings after a change.

    Raises:
        KserveError: no such setting; or tracing is asked for (UNIMPLEMENTED).
    """
    changed = changed_trace(current, change)
    if changed["trace_level"] not in (["OFF"], "OFF"):
        raise KserveError(
            "this server traces every request by itself, see `pipeline status --request`; it writes no traces in "
            "Triton's form: expected trace_level OFF",
            "UNIMPLEMENTED",
        )
    return changed


@dataclass
class _Gateway:
    number: int
    runs: bool = False
    told: bool = False
    """It has said hello, and is told of every change."""
    ready: bool = False
    killed: bool = False
    why: str = ""
    """Why it cannot serve, as it says."""
    since: float = 0.0
    """When it was started, or became ready."""
    deaths: int = 0
    """One after the other, none of them long after it was ready."""
    start_at: float | None = None
    counts: Mapping[str, tuple[int, Counts]] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)


@dataclass
class _Change:
    missing: set[int]
    """The gateways that have not confirmed it."""
    until: float


class Truth:
    """What is so, for `gateways` gateways, by number from 0 on. Times are monotonic seconds."""

    def __init__(self, gateways: int) -> None:
        self._gateways = [_Gateway(number) for number in range(gateways)]
        self._revision = 0
        self._changes: dict[int, _Change] = {}
        self.log: dict[str, bool | int | str] = dict(LOG_SETTINGS)
        self._trace: dict[str, str | list[str]] = dict(TRACE_SETTINGS)
        self._regions: dict[str, RegionEntry] = {}
        self.models: dict[str, ModelTold] = {}
        """Each as all gateways were told, or will be."""
        #: What gateways had done that died, by model: with which load of it, and what.
        self._dead: dict[str, tuple[int, Counts]] = {}
        self._dead_traffic = Traffic()
        self._served = False
        self._leaving = False

    # -- gateways -------------------------------------------------------------------------------

    def start(self, now: float) -> list[Instruction]:
        """Start all of them."""
        return [self._start(gateway, now) for gateway in self._gateways]

    def _start(self, gateway: _Gateway, now: float) -> Start:
        gateway.runs, gateway.start_at, gateway.since = True, None, now
        return Start(gateway.number)

    def hello(self, number: int, version: int) -> list[Instruction]:
        """A gateway is there, and is told everything."""
        gateway = self._gateways[number]
        if version != VERSION:
            gateway.why = (
                f"its frames are of version {version}, and the keeper's of {VERSION}: the package was replaced; start "
                f"`pipeline serve` again"
            )
            gateway.killed = True
            return [Kill(number)]
        gateway.told = True
        frames: list[Frame] = [LogTold(0, dict(self.log)), TraceTold(0, dict(self._trace))]
        frames += [RegionTold(0, *entry) for entry in self._regions.values()]
        frames += [_unnumbered(model) for model in self.models.values()]
        return [Tell(number, frame) for frame in (*frames, Complete())]

    def ready(self, number: int, now: float) -> list[Instruction]:
        """A gateway takes requests."""
        gateway = self._gateways[number]
        gateway.ready, gateway.since = True, now
        if self._leaving:
            return []
        if self._served:
            return [Say(f"gateway/{number} serves again")]
        if all(each.ready for each in self._gateways):
            self._served = True
            return [Serving()]
        return []

    def failed(self, number: int, why: str) -> list[Instruction]:
        """A gateway says why it ends."""
        self._gateways[number].why = why
        return []

    def died(self, number: int, how: str, now: float) -> list[Instruction]:
        """A gateway is gone for certain.

        Args:
            how: "killed by signal 9 (SIGKILL)".
        """
        gateway = self._gateways[number]
        for model, counted in gateway.counts.items():
            self._dead[model] = _joined(self._dead.get(model), counted)
        self._dead_traffic = merged([self._dead_traffic, gateway.traffic, Traffic(deaths=int(not self._leaving))])
        deaths = 0 if gateway.ready and now - gateway.since >= _SOUND_S else gateway.deaths
        how = gateway.why or how
        self._gateways[number] = gateway = _Gateway(number, deaths=deaths + 1)
        settled = [Settle(revision) for revision in list(self._changes) if self._confirm(revision, number)]
        if self._leaving:
            return [*settled]
        if not self._served:
            return [*settled, Fail(f"gateway/{number} did not start: {how}")]
        delay = min(_FIRST_DELAY_S * 2**min(deaths, 10), _LONGEST_DELAY_S) if deaths else 0.0
        gateway.start_at = now + delay
        later = f" in {delay:.1f} s" if delay else ""
        told = Say(f"gateway/{number} died ({how}); it is started again{later}", "warning")
        return [*settled, told, *self.due(now)]

    def due(self, now: float) -> list[Instruction]:
        """What must happen now because time has passed."""
        late = {number for change in self._changes.values() if now >= change.until for number in change.missing}
        starting = [each for each in self._gateways if each.runs and not each.ready]
        late |= {each.number for each in starting if now >= each.since + _START_S}
        found: list[Instruction] = []
        for gateway in self._gateways:
            if gateway.start_at is not None and now >= gateway.start_at and not self._leaving:
                found.append(self._start(gateway, now))
            elif gateway.number in late and not gateway.killed:
                gateway.killed = True
                gateway.why = gateway.why or "killed: it did not answer the keeper in time"
                found.append(Kill(gateway.number))
        return found

    def next_due(self) -> float | None:
        """When `due` has something to say, if nothing else happens; None: never."""
        times = [change.until for change in self._changes.values()]
        for each in self._gateways:
            if each.start_at is not None:
                times.append(each.start_at)
            elif each.runs and not each.ready:
                times.append(each.since + _START_S)
        return min(times, default=None)

    def drain(self, limit_s: float) -> list[Instruction]:
        """No gateway is started again, and those that run answer what they have within `limit_s` seconds, and end."""
        self._leaving = True
        # One that knows nothing yet has nothing under way.
        running = [each for each in self._gateways if each.runs]
        return [Tell(each.number, Drain(limit_s)) if each.told else Kill(each.number) for each in running]

    @property
    def running(self) -> list[int]:
        """The gateways that are there."""
        return [each.number for each in self._gateways if each.runs]

    # -- changes --------------------------------------------------------------------------------

    def confirmed(self, number: int, revision: int) -> list[Instruction]:
        """A gateway shows the change of that revision."""
        return [Settle(revision)] if self._confirm(revision, number) else []

    def _confirm(self, revision: int, number: int) -> bool:
        """Whether that was the last one."""
        change = self._changes.get(revision)
        if change is None or number not in change.missing:
            return False
        change.missing.discard(number)
        if change.missing:
            return False
        del self._changes[revision]
        return True

    def _tell(self, frame: Frame, now: float, limit_s: float) -> tuple[int, list[Instruction]]:
        """To all that know anything."""
        told = [each.number for each in self._gateways if each.told]
        if not told:
            return self._revision, [Settle(self._revision)]
        self._changes[self._revision] = _Change(set(told), now + limit_s)
        return self._revision, [Tell(number, frame) for number in told]

    def _next(self) -> int:
        self._revision += 1
        return self._revision

    def change_log(self, change: Mapping[str, object], now: float) -> tuple[int, list[Instruction]]:
        """Its revision, which is settled once all gateways show it.

        Raises:
            KserveError: no such setting, or a value that it cannot have.
        """
        self.log = changed_log(self.log, change)
        return self._tell(LogTold(self._next(), dict(self.log)), now, CONFIRM_S)

    def change_trace(
        self, change: Mapping[str, str | list[str] | None], now: float
    ) -> tuple[int, list[Instruction]]:
        """As `change_log`.

        Raises:
            KserveError: see `checked_trace`.
        """
        self._trace = checked_trace(self._trace, change)
        return self._tell(TraceTold(self._next(), dict(self._trace)), now, CONFIRM_S)

    def register(self, entry: RegionEntry, now: float) -> tuple[int, list[Instruction]]:
        """A region is there, and open."""
        self._regions[entry.name] = entry
        return self._tell(RegionTold(self._next(), *entry), now, CONFIRM_S)

    def unregister(self, name: str, now: float) -> tuple[int, list[Instruction]]:
        """A region is not there any more, or none is if the name is empty."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()
        return self._tell(RegionGone(self._next(), name), now, CONFIRM_S)

    def model(self, told: ModelTold, now: float) -> tuple[int, list[Instruction]]:
        """A model is as `told` says from now on; its revision is set here."""
        self.models[told.name] = told
        if (dead := self._dead.get(told.name)) is not None and dead[0] != told.load:
            del self._dead[told.name]
        frame = _numbered(told, self._next())
        return self._tell(frame, now, CONFIRM_S + told.drain_s)

    def forget(self, name: str, now: float) -> tuple[int, list[Instruction]]:
        """A model cannot be loaded any more."""
        self.models.pop(name, None)
        self._dead.pop(name, None)
        return self._tell(ModelGone(self._next(), name), now, CONFIRM_S)

    # -- counts ---------------------------------------------------------------------------------

    def report(self, now: float) -> tuple[int, list[Instruction]]:
        """Have all gateways say their counts; once that is settled, `counts` has them."""
        return self._tell(Report(self._next()), now, CONFIRM_S)

    def counted(
        self, number: int, revision: int, counts: Mapping[str, tuple[int, Counts]], traffic: Traffic
    ) -> list[Instruction]:
        """A gateway has said its counts."""
        self._gateways[number].counts, self._gateways[number].traffic = counts, traffic
        return self.confirmed(number, revision)

    def traffic(self) -> Traffic:
        """Of all gateways, since `pipeline serve` began."""
        return merged([self._dead_traffic, *[each.traffic for each in self._gateways]])

    def counts(self) -> dict[str, Counts]:
        """Of each model that is served, since it was loaded."""
        found = {}
        for name, model in self.models.items():
            if model.place:
                said = [self._dead.get(name), *[each.counts.get(name) for each in self._gateways]]
                found[name] = _sum(counted[1] for counted in said if counted is not None and counted[0] == model.load)
        return found


def _sum(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for each in counts:
        total = total.plus(each)
    return total


def _joined(before: tuple[int, Counts] | None, counted: tuple[int, Counts]) -> tuple[int, Counts]:
    """Those of the newer load; of both, if they are of one."""
    if before is None or before[0] < counted[0]:
        return counted
    return before if before[0] > counted[0] else (before[0], before[1].plus(counted[1]))


def _numbered(model: ModelTold, revision: int) -> ModelTold:
    return ModelTold(revision, model.name, model.place, model.load, model.state, model.why, model.drain_s)


def _unnumbered(model: ModelTold) -> ModelTold:
    return _numbered(model, 0)
