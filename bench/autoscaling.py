"""Autoscaling: what Kubernetes' autoscaler makes of the load ratio, on simulated pods. Pure but for its command line.

    python -m bench.autoscaling --svg docs/bench/autoscaling.svg     # docs/scale.md shows it

`decide` is the HorizontalPodAutoscaler of autoscaling/v2 with one metric
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/, "Algorithm details" and
"Configurable scaling behavior"). KEDA makes such an autoscaler of a ScaledObject, so from one pod on it decides the
same; `Kind` is its `metricType`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from bench.scale import LEAST_REQUEST, Fleet, quantile, times_in
from pipeline.drawing.chart import Line, Panel, axis_of, to_chart

__all__ = [
    "CHOSEN", "CLAMP", "END_S", "SHAPES", "Autoscaler", "History", "Kind", "Moment", "Policy", "Rules", "decide",
    "replay", "turns",
]  # fmt: skip


class Kind(Enum):
    """How a metric becomes a number of pods."""

    VALUE = "Value"
    """pods x metric / target"""
    AVERAGE = "AverageValue"
    """metric / target, of a metric that is a sum over the pods"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much may change within a period."""

    type: str
    """Pods or Percent."""
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one direction; of several policies, the one that allows most holds."""

    window_s: float
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """The `spec` of a HorizontalPodAutoscaler."""

    target: float
    least: int
    most: int
    up: Rules
    down: Rules
    tolerance: float = 0.1
    """Of the ratio of metric and target; --horizontal-pod-autoscaler-tolerance."""
    every_s: float = 15.0
    """--horizontal-pod-autoscaler-sync-period"""
    kind: Kind = Kind.VALUE


CHOSEN = Autoscaler(
    target=1.4, least=2, most=40,
    up=Rules(60, (Policy("Percent", 100, 60), Policy("Pods", 2, 60))),
    down=Rules(300, (Policy("Percent", 10, 120), Policy("Pods", 1, 120))),
)  # fmt: skip
"""That of deploy/kubernetes."""


@dataclass(slots=True)
class History:
    """What an autoscaler remembers: times in seconds with what it would have made, and with what it changed."""

    wanted: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)


def decide(scaler: Autoscaler, history: History, now: float, pods: int, ready: int, metric: float | None) -> int:
    """The number of pods that there should be; `history` is told.

    Args:
        pods: that there should be until now.
        ready: those of them that are ready.
        metric: None: there is none, and nothing changes.
    """
    wanted = _stabilised(scaler, history, now, pods, _wanted(scaler, pods, ready, metric))
    if wanted > pods:
        wanted = min(wanted, max(pods, _limit(scaler.up, history, now, pods)), scaler.most)
    elif wanted < pods:
        wanted = max(wanted, min(pods, _limit(scaler.down, history, now, pods, down=True)), scaler.least)
    if wanted != pods:
        history.changes.append((now, wanted - pods))
    return wanted


def _wanted(scaler: Autoscaler, pods: int, ready: int, metric: float | None) -> int:
    if metric is None:
        return pods
    ratio = metric / scaler.target / (1 if scaler.kind is Kind.VALUE else pods)
    if abs(ratio - 1) <= scaler.tolerance:
        return pods
    found = math.ceil(ratio * ready if scaler.kind is Kind.VALUE else metric / scaler.target)
    return min(max(found, scaler.least), scaler.most)


def _stabilised(scaler: Autoscaler, history: History, now: float, pods: int, wanted: int) -> int:
    """Up to the least, and down to the most, that was wanted within the window of that direction."""
    recent = [each for each in history.wanted if each[0] > now - max(scaler.up.window_s, scaler.down.window_s)]
    up = min([wanted, *(count for at, count in recent if at > now - scaler.up.window_s)])
    down = max([wanted, *(count for at, count in recent if at > now - scaler.down.window_s)])
    history.wanted = [*recent, (now, wanted)]
    return min(max(pods, up), down)


def _limit(rules: Rules, history: History, now: float, pods: int, *, down: bool = False) -> int:
    limits = []
    for policy in rules.policies:
        begun = pods - sum(change for at, change in history.changes if at > now - policy.period_s)
        step = -policy.value if down else policy.value
        if policy.type == "Pods":
            limits.append(begun + step)
        else:
            limits.append(int(begun * (1 + step / 100)) if down else math.ceil(begun * (1 + step / 100)))
    return min(limits) if down else max(limits)


# -- pods under a load that changes -------------------------------------------------------------------


class Moment(NamedTuple):
    """What was so when the autoscaler decided."""

    at: float
    rate: float
    """Requests in a second that came."""
    pods: int
    """That there should be from now on."""
    metric: float | None
    """The mean load ratio of the last minute, as it was last scraped."""
    p99: float | None
    """Of the last period, in mean service times."""


_STARTS_S = 20.0
"""Until a new pod is ready."""
_QUEUE_MAX = 32
"""Requests that a pod has at one time; what is beyond is refused, and not part of the load ratio."""
_WINDOW_S = 60.0
"""Over which the mean is taken."""


def replay(
    scaler: Autoscaler, rate: Callable[[float], float], end_s: float, times: Sequence[float], *, seed: int, pods: int
) -> list[Moment]:
    """Pods under a load, of which the autoscaler decides how many they are.

    Args:
        rate: requests in a second, by time.
        times: measured service times in seconds.
        pods: at the start.
    """
    chance = random.Random(seed)
    fleet, history, mean = Fleet(pods, LEAST_REQUEST, seed + 1, _QUEUE_MAX), History(), statistics.fmean(times)
    starting: list[float] = []
    #: Sum of the load ratios and their number, at each scrape.
    scrapes = [(0.0, 0)]
    moments: list[Moment] = []
    now = next_request = 0.0
    while now < end_s:
        now += scaler.every_s
        while next_request < now:
            while starting and starting[0] <= next_request:
                fleet.resize(len(fleet) + 1, starting.pop(0))
            fleet.send(next_request, chance.choice(times))
            next_request += chance.expovariate(max(rate(next_request), 1e-3))
        fleet.settle(now)
        done, fleet.done = fleet.done, []
        # What was scraped a moment ago is a period old when the autoscaler sees it.
        metric = _mean_of_last_minute(scrapes, scaler.every_s)
        scrapes.append((scrapes[-1][0] + sum(each.load_ratio for each in done), scrapes[-1][1] + len(done)))
        there = len(fleet) + len(starting)
        wanted = decide(scaler, history, now, there, len(fleet), metric)
        starting += [now + _STARTS_S] * (wanted - there)
        if wanted < there:
            # Those that have not begun are the first to go.
            del starting[max(0, len(starting) - (there - wanted)) :]
            fleet.resize(min(len(fleet), wanted), now)
        p99 = quantile((each.finished - each.arrived for each in done), 0.99) / mean if done else None
        moments.append(Moment(now, rate(now), wanted, metric, p99))
    return moments


def _mean_of_last_minute(scrapes: Sequence[tuple[float, int]], every_s: float) -> float:
    total, count = scrapes[-1]
    before, counted = scrapes[max(0, len(scrapes) - 1 - round(_WINDOW_S / every_s))]
    # Without requests: 1, as adapter-rules.yaml says.
    return min(CLAMP, (total - before) / (count - counted)) if count > counted else 1.0


def turns(counts: Sequence[int]) -> int:
    """How often the number went up after it had gone down, or the other way round."""
    changes = [after - before for before, after in itertools.pairwise(counts) if after != before]
    return sum((one > 0) != (other > 0) for one, other in itertools.pairwise(changes))


CLAMP = 2.5
"""A higher load ratio counts as this one: it tells how long the overload has been, and not how large it is."""
END_S = 3600.0


def _step(at: float) -> float:
    return 0.2 if at < 600 or at >= 2100 else 1.0


def _ramp(at: float) -> float:
    return 0.1 + 0.9 * min(1.0, at / 1500) if at < 2100 else max(0.1, 1.0 - 0.9 * (at - 2100) / 900)


def _sine(at: float) -> float:
    return 0.6 - 0.4 * math.cos(2 * math.pi * at / 1800)


SHAPES: dict[str, Callable[[float], float]] = {"step": _step, "ramp": _ramp, "sine": _sine}
"""Loads, as parts of the highest one, over an hour."""


# -- the command line -------------------------------------------------------------------------------


#: What keeps the pods of the start busy, as a part.
_BUSY = 0.7


def _times(most: float, shape: Callable[[float], float]) -> Callable[[float], float]:
    return lambda at: most * shape(at)


def _draw(times: Sequence[float], busiest: float) -> str:
    """The picture.

    Args:
        busiest: pods that the highest load keeps busy.
    """
    most, mean = busiest / statistics.fmean(times), statistics.fmean(times)
    panels = []
    for name, shape in SHAPES.items():
        found = replay(CHOSEN, _times(most, shape), END_S, times, seed=5, pods=math.ceil(busiest * shape(0) / _BUSY))
        counts = [each.pods for each in found]
        late = sum(each.p99 is not None and each.p99 > 10 for each in found) / len(found)
        print(f"{name}: {min(counts)} to {max(counts)} pods, {turns(counts)} turns, late {late:.0%}")
        lines = [
            Line("pods", [(each.at / 60, each.pods) for each in found], "#2a78b8", stepped=True),
            Line("kept busy by the load", [(each.at / 60, each.rate * mean) for each in found], "#c0392b", dashed=True),
            Line("load ratio", [(each.at / 60, each.metric or 1) for each in found], "#2a9d62"),
        ]
        panels.append(Panel(name, axis_of("minutes", END_S / 60, exact=True), axis_of("pods", 40), lines))
    notes = [
        f"Simulated (python -m bench.autoscaling) with {len(times)} measured service times. The load ratio is the mean",
        f"of a minute, at most {CLAMP:g}; its target is {CHOSEN.target:g}. A pod starts in {_STARTS_S:g} s.",
    ]
    return to_chart("Pods by load ratio: a step, a ramp, a sine", notes, panels)


def main() -> None:
    """Print what each shape needs; draw it."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscaling", description="pods under loads that change")
    parser.add_argument("--busiest", type=float, default=12.0, help="pods that the highest load keeps busy")
    parser.add_argument("--svg", type=Path, required=True, help="the picture")
    given = parser.parse_args()
    given.svg.write_text(_draw(times_in(), given.busiest))


if __name__ == "__main__":
    main()
