"""Measure: the latency, throughput and CPU of each `Subject`, in rounds that are fair to every subject.

`bench.run` calls `measure`; subjects implement `Subject`. This module does not know what is inside a subject.

One cell is one subject at one size in one round:

    setup | warm up, latency | warm up, W = 16 | warm up, W = 64 | close
            `----- metered: own CPU, foreign CPU, wall time -----'

CPU is the time for which the threads of its processes ran, from /proc/<pid>/task/*/schedstat (nanoseconds; Linux,
Documentation/scheduler/sched-stats.rst). If a thread ends inside a metered stretch, its time is lost.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = [
    "QUIET_CORES",
    "Cell",
    "Flow",
    "Load",
    "Pids",
    "Repeat",
    "Spread",
    "Subject",
    "SubjectDied",
    "allowed_windows",
    "cpu_seconds",
    "measure",
    "metered",
    "parse_busy",
    "spread",
]

#: If the foreign load, in cores, is above this, a repeat counts as disturbed.
QUIET_CORES = 0.25
_WARM_UP_S = 0.1


class SubjectDied(RuntimeError):
    """A process of the subject ended or stopped answering in the middle of a run."""


class Flow(NamedTuple):
    """The requests that went through a subject with several in flight."""

    requests: int
    """Requests answered and checked, including those in flight when submitting ended."""
    seconds: float
    """From the first submission to the last answer."""
    samples: Sequence[float] = ()
    """Microseconds of each call, if the subject measures them."""


Pids = Sequence[int] | Mapping[str, Sequence[int]]
"""Process ids; or those of each group of processes whose CPU time is told apart."""


class Subject(Protocol):
    """A system under measurement: it takes a tensor, relays it and gives it back."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def setup(self, nbytes: int, window: int) -> None:
        """Start it for uint8 tensors of `nbytes` with at most `window` in flight; return when it answers."""

    def latency(self, seconds: float) -> list[float]:
        """Microseconds of each request, one after the other with one in flight, for about `seconds`; at least one.

        A request consists of one memcpy of a private source into shared memory, a stamp in its first and last
        8 bytes, the way around, and the check of both stamps.
        """

    def throughput(self, seconds: float, window: int) -> Flow:
        """Keep `window` such requests in flight for `seconds`, then wait for those in flight."""

    def pids(self) -> Pids:
        """Every process whose CPU time counts for the subject, the calling one included."""

    def close(self) -> None:
        """End it. Works after a failed `setup`, and a second time."""


@dataclass(frozen=True, slots=True)
class Load:
    """CPU time during a metered stretch."""

    seconds: float
    """Wall time."""
    own_s: float
    """CPU seconds of the subject's processes."""
    busy_s: float
    """CPU seconds of the whole machine, stolen time included."""
    groups_s: Mapping[str, float] = field(default_factory=dict)
    """Of `own_s` the part of each group of processes, if the subject has groups."""

    @property
    def foreign_cores(self) -> float:
        """Cores that were busy with other work, on average."""
        return max(0.0, self.busy_s - self.own_s) / self.seconds


@dataclass(frozen=True, slots=True)
class Repeat:
    """One metered stretch of one cell: either a latency (window 1) or a throughput."""

    requests: int
    cpu_us: float
    """CPU microseconds a request, over all processes of the subject."""
    foreign_cores: float
    rate: float
    """Requests a second."""
    p50_us: float | None = None
    p99_us: float | None = None
    groups_us: Mapping[str, float] = field(default_factory=dict)
    """Of `cpu_us` the part of each group of processes, if the subject has groups."""

    @property
    def quiet(self) -> bool:
        return self.foreign_cores <= QUIET_CORES


@dataclass(slots=True)
class Cell:
    """All repeats of one subject, size and window."""

    subject: str
    nbytes: int
    window: int
    repeats: list[Repeat] = field(default_factory=list)


class Spread(NamedTuple):
    """A value over the repeats of a cell."""

    median: float
    low: float
    high: float
    used: int
    """The number of repeats behind these numbers."""
    disturbed: bool
    """Whether fewer than half of the repeats were quiet, so that disturbed ones had to be used."""


def spread(repeats: Sequence[Repeat], value: Callable[[Repeat], float | None]) -> Spread | None:
    """`value` over the quiet repeats if they are at least half of all, otherwise over all of them.

    None if no repeat has the value.
    """
    quiet = [repeat for repeat in repeats if repeat.quiet]
    disturbed = 2 * len(quiet) < len(repeats)
    values = [v for repeat in (repeats if disturbed else quiet) if (v := value(repeat)) is not None]
    if not values:
        return None
    return Spread(float(np.median(values)), min(values), max(values), len(values), disturbed)


def allowed_windows(windows: Iterable[int], slot_bytes: int, budget_bytes: int) -> list[int]:
    """`windows` cut to what fits into `budget_bytes` of slots; each once, ascending, at least [1]."""
    most = max(1, budget_bytes // slot_bytes)
    return sorted({min(window, most) for window in windows})


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds for which the threads of `pids` have run since they started.

    Raises:
        SubjectDied: one of `pids` does not exist.
    """
    total = 0
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except FileNotFoundError:
            raise SubjectDied(f"process {pid} ended while its CPU time was measured") from None
        for task in tasks:
            # ESRCH: the thread ended between the listing and the reading.
            with (
                contextlib.suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file,
            ):
                total += int(file.read().split()[0])
    return total / 1e9


def parse_busy(stat: str, ticks_per_s: int) -> float:
    """CPU seconds of the machine that were not idle, from the text of /proc/stat (proc_stat(5)).

    Counted: user, nice, system, irq, softirq, steal; not counted: idle, iowait, and guest, which user includes.
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split(None, 9)[1:9])
    return (user + nice + system + irq + softirq + steal) / ticks_per_s


def _busy_seconds() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        return parse_busy(file.readline(), os.sysconf("SC_CLK_TCK"))


@contextlib.contextmanager
def metered(pids: Pids) -> Iterator[Callable[[], Load]]:
    """Meter the block; the value is a function that gives the `Load` after the block has ended."""
    load: Load | None = None
    groups = pids if isinstance(pids, Mapping) else {"": pids}

    def result() -> Load:
        if load is None:
            raise RuntimeError("the metered block has not ended")
        return load

    start, own, busy = time.perf_counter(), _by_group(groups), _busy_seconds()
    yield result
    end, own_end, busy_end = time.perf_counter(), _by_group(groups), _busy_seconds()
    spent = {group: own_end[group] - own[group] for group in groups}
    load = Load(end - start, sum(spent.values()), busy_end - busy, spent if isinstance(pids, Mapping) else {})


def _by_group(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {group: cpu_seconds(pids) for group, pids in groups.items()}


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _latency(subject: Subject, seconds: float) -> Repeat:
    subject.latency(_WARM_UP_S)
    with metered(subject.pids()) as load:
        samples = subject.latency(seconds)
    return _repeat(len(samples), load(), len(samples) / (sum(samples) / 1e6), samples)


def _throughput(subject: Subject, seconds: float, window: int) -> Repeat:
    subject.throughput(_WARM_UP_S, window)
    with metered(subject.pids()) as load:
        flow = subject.throughput(seconds, window)
    return _repeat(flow.requests, load(), flow.requests / flow.seconds, flow.samples)


def _repeat(requests: int, load: Load, rate: float, samples: Sequence[float]) -> Repeat:
    p50, p99 = map(float, np.percentile(samples, [50, 99])) if samples else (None, None)
    groups = {group: seconds / requests * 1e6 for group, seconds in load.groups_s.items()}
    return Repeat(requests, load.own_s / requests * 1e6, load.foreign_cores, rate, p50, p99, groups)


def measure(
    subjects: Sequence[Callable[[], Subject]],
    nbytes: int,
    windows: Sequence[int] | Mapping[str, Sequence[int]],
    rounds: int,
    seconds: float,
    progress: Callable[[str], Any] = lambda _: None,
    closing: Callable[[], Any] = lambda: None,
) -> list[Cell]:
    """Run every subject once a round, for `rounds` rounds; window 1 (latency) first, then `windows`.

    Subjects are made again in every round: the CPUs on which the kernel places their processes are part of the
    spread. The order rotates from round to round, so that no subject always runs after the same one. `closing`
    is called before a subject is closed.

    Args:
        windows: requests in flight, of all subjects or by the name of the subject.

    Raises:
        SubjectDied, bench.floors.slots.TornTensor: the run is void.
    """
    cells: dict[tuple[str, int], Cell] = {}
    for round_ in range(rounds):
        shift = round_ % len(subjects)
        for make in (*subjects[shift:], *subjects[:shift]):
            subject = make()
            its = windows[subject.name] if isinstance(windows, Mapping) else windows
            progress(f"{nbytes:,} B, round {round_ + 1} of {rounds}: {subject.name}")
            try:
                with _no_garbage_collection():
                    subject.setup(nbytes, max(its))
                    for window in sorted({1, *its}):
                        repeat = _latency(subject, seconds) if window == 1 else _throughput(subject, seconds, window)
                        cell = cells.setdefault((subject.name, window), Cell(subject.name, nbytes, window))
                        cell.repeats.append(repeat)
            finally:
                closing()
                subject.close()
    order = [make().name for make in subjects]
    return sorted(cells.values(), key=lambda cell: (order.index(cell.subject), cell.window))
