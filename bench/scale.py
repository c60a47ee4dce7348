"""Scale: many pods behind one balancer, as a simulation with measured service times. Pure but for its command line.

    python -m bench.scale --svg docs/bench/scale.svg       # about a minute; docs/scale.md says what it shows

A pod computes one request after the other, in the order in which they come. The balancer sends each request as it
comes, as Envoy does:

    LEAST_REQUEST   of two pods that are drawn by chance, the one with fewer requests under way
    ROUND_ROBIN     the next one

A pod that dies has its requests asked again at once of another one, from their beginning, and is missing until it is
back. Time is in seconds, and begins at 0.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.drawing.chart import Line, Panel, axis_of, log_axis_of, to_chart

__all__ = [
    "LEAST_REQUEST", "ROUND_ROBIN", "Death", "Done", "Fleet", "cost_of_a_million", "quantile", "simulate", "times_in",
]  # fmt: skip

LEAST_REQUEST: Final = "LEAST_REQUEST"
ROUND_ROBIN: Final = "ROUND_ROBIN"
TIMES = Path(__file__).parent / "results/service-times-2026-11-30.json"

_LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_COLOURS = {1: "#8a94a0", 10: "#2a78b8", 100: "#2a9d62", 1000: "#c0392b"}


class Done(NamedTuple):
    """A request that was answered."""

    arrived: float
    finished: float
    service: float
    """Of a pod of the usual speed."""

    @property
    def load_ratio(self) -> float:
        """As `trtlab_load_ratio`: its time divided by that of its computation."""
        return (self.finished - self.arrived) / self.service


@dataclass(frozen=True, slots=True)
class Death:
    """A pod that dies, by its number at the start, and is back later."""

    at: float
    pod: int
    back: float


class _Pod:
    __slots__ = ("free_at", "slower", "work")

    def __init__(self, slower: float = 1.0) -> None:
        self.free_at = 0.0
        self.slower = slower
        #: What it has, in the order in which it will be finished.
        self.work: deque[Done] = deque()


class Fleet:
    """Pods, and the balancer in front of them. Calls come in the order of their times.

    Args:
        pods: how many there are at the start; at least one.
        policy: LEAST_REQUEST or ROUND_ROBIN.
        seed: of what is drawn by chance.
        queue_max: requests that a pod has at one time; more are refused, as by `queue: {max: ...}`. None: any number.
        slow: how many of the first pods take twice as long.
    """

    def __init__(self, pods: int, policy: str, seed: int, queue_max: int | None = None, slow: int = 0) -> None:
        self._policy = policy
        self._queue_max = queue_max
        self._random = random.Random(seed)
        self._next = 0
        self._leaving: list[_Pod] = []
        self._pods = [_Pod(2.0 if number < slow else 1.0) for number in range(pods)]
        self.done: list[Done] = []
        """What was answered, once `settle` has been called."""
        self.retried = 0
        """Requests that were asked again."""
        self.refused = 0
        """Requests that a full pod has refused."""

    def __len__(self) -> int:
        return len(self._pods)

    def send(self, now: float, service: float, arrived: float | None = None) -> None:
        """A request comes, and takes `service` seconds of a pod; `arrived`: if it was asked earlier, when."""
        pod = self._choose(now)
        self._settle(pod, now)
        if self._queue_max is not None and len(pod.work) >= self._queue_max:
            self.refused += 1
            return
        finished = max(now, pod.free_at) + service * pod.slower
        pod.free_at = finished
        pod.work.append(Done(now if arrived is None else arrived, finished, service))

    def _choose(self, now: float) -> _Pod:
        pods = self._pods
        if self._policy == ROUND_ROBIN:
            self._next = (self._next + 1) % len(pods)
            return pods[self._next]
        # Not randrange, which takes three times as long.
        one, other = pods[int(self._random.random() * len(pods))], pods[int(self._random.random() * len(pods))]
        self._settle(one, now)
        self._settle(other, now)
        return other if len(other.work) < len(one.work) else one

    def _settle(self, pod: _Pod, now: float) -> None:
        work = pod.work
        while work and work[0].finished <= now:
            self.done.append(work.popleft())

    def settle(self, now: float) -> None:
        """Have `done` say all that was finished until now."""
        for pod in (*self._pods, *self._leaving):
            self._settle(pod, now)
        self._leaving = [pod for pod in self._leaving if pod.work]

    def kill(self, number: int, now: float) -> None:
        """A pod dies; if it is the only one, nothing happens."""
        if len(self._pods) == 1:
            return
        pod = self._pods.pop(number % len(self._pods))
        self._settle(pod, now)
        self.retried += len(pod.work)
        for each in pod.work:
            self.send(now, each.service, each.arrived)

    def resize(self, count: int, now: float) -> None:
        """There are `count` pods from now on. Those that go take nothing new, and finish what they have."""
        self._leaving += self._pods[count:]
        del self._pods[count:]
        self._pods += [_Pod() for _ in range(count - len(self._pods))]


def simulate(
    pods: int, load: float, times: Sequence[float], policy: str, *, requests: int, seed: int,
    deaths: Iterable[Death] = (), slow: int = 0,
) -> Fleet:  # fmt: skip
    """So many requests, which come by chance (a Poisson process).

    Args:
        load: the part of all pods that is busy, below 1.
        times: service times in seconds, of which each request draws one.
        slow: as of `Fleet`.
    """
    chance = random.Random(seed)
    fleet = Fleet(pods, policy, seed + 1, slow=slow)
    rate = load * pods / statistics.fmean(times)
    events = sorted([(each.at, each.pod) for each in deaths] + [(each.back, -1) for each in deaths], reverse=True)
    now = 0.0
    for _ in range(requests):
        now += chance.expovariate(rate)
        while events and events[-1][0] <= now:
            at, pod = events.pop()
            if pod < 0:
                fleet.resize(min(len(fleet) + 1, pods), at)
            else:
                fleet.kill(pod, at)
        fleet.send(now, chance.choice(times))
    fleet.settle(float("inf"))
    return fleet


def quantile(values: Iterable[float], part: float) -> float:
    """The smallest value that at least this part of all are not above; there is at least one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def cost_of_a_million(price: float, rate: float) -> float:
    """What a million requests cost.

    Args:
        price: of a pod for an hour, in any currency.
        rate: requests that a pod answers in a second: what it can, times how busy it is kept.
    """
    return price / 3600 / rate * 1e6


def times_in(path: Path = TIMES) -> list[float]:
    """The measured service times, in seconds."""
    return [float(ms) / 1e3 for ms in json.loads(path.read_text())["service_ms"]]


# -- the command line -------------------------------------------------------------------------------


def _p99(pods: int, load: float, times: Sequence[float], policy: str, *, failing: bool) -> tuple[float, int]:
    """p99 in mean service times, and how many were asked again."""
    mean = statistics.fmean(times)
    requests = max(30_000, 80 * pods)
    end = requests * mean / (load * pods)
    # One in twenty of each: dies once, and is away for a twentieth of the time; is slow.
    some = max(1, pods // 20) if failing else 0
    chance = random.Random(7)
    times_of_death = [chance.uniform(0, 0.9 * end) for _ in range(some)]
    deaths = [Death(at, chance.randrange(pods), at + end / 20) for at in times_of_death]
    fleet = simulate(pods, load, times, policy, requests=requests, seed=11, deaths=deaths, slow=some)
    return quantile((each.finished - each.arrived for each in fleet.done), 0.99) / mean, fleet.retried


def _draw(times: Sequence[float]) -> str:
    panels = []
    ill = "one pod in twenty is half as fast, one in twenty dies once"
    for title, failing in (("without failures", False), (ill, True)):
        lines = []
        for pods, colour in _COLOURS.items():
            if failing and pods == 1:
                continue
            for policy in (ROUND_ROBIN, LEAST_REQUEST) if pods > 1 else (ROUND_ROBIN,):
                points = []
                for load in _LOADS:
                    p99, retried = _p99(pods, load, times, policy, failing=failing)
                    points.append((100 * load, p99))
                    print(f"{title:16.16} {pods:5} pods {policy:13} {load:4.0%}  p99 {p99:6.2f}  again {retried}")
                short = "least" if policy == LEAST_REQUEST else "turn"
                lines.append(
                    Line(str(pods) if pods == 1 else f"{pods} {short}", points, colour, dashed=policy == ROUND_ROBIN)
                )
        panels.append(
            Panel(
                f"p99, {title}", axis_of("load of all pods, %", 100, exact=True), log_axis_of("service times", 1, 100),
                lines,
            )
        )
    notes = [
        "In mean service times, by the number of pods. Least: LEAST_REQUEST; turn: ROUND_ROBIN (dashed).",
        f"Simulated (python -m bench.scale) with {len(times)} measured service times, "
        f"{statistics.fmean(times) * 1e3:.0f} ms in the mean.",
    ]
    return to_chart("Pods behind one balancer", notes, panels)


def main() -> None:
    """Print the table; draw it if a file is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="p99 against load, of 1 to 1,000 pods")
    parser.add_argument("--times", type=Path, default=TIMES, help="JSON with service_ms")
    parser.add_argument("--svg", type=Path, required=True, help="the picture")
    given = parser.parse_args()
    given.svg.write_text(_draw(times_in(given.times)))


if __name__ == "__main__":
    main()
