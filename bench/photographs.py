"""`python -m bench.photographs`: photographs a second of configs/resnet.yaml, beside loops written by hand.

    loop         one process, batches of 4; the model has a thread for each core
    loop-ahead   the same, with two threads that decode while the model runs
    processes    a process for each core, each a loop of one thread
    untuned      `pipeline run configs/resnet.yaml --serve` as it is shipped, fed through the client of applications
    NAME         with --config NAME=FILE: another config, such as one that `pipeline tune` has written
    NAME         with --set NAME=ASSIGNMENT,...: the shipped config with these changes

All are started first and wait; then they take turns, in rotating order, each with the same photographs. At the end the
scores of each are compared with those of the loop. `x` is the median over the rounds of a subject's rate divided by
that of the loop in the same round, and `x best` by that of the fastest loop written by hand, the one with the highest
median. CPU time is that of all processes of the benchmark, those that wait included; `x CPU` divides it by that of the
fastest loop, and says more than a rate if others use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from bench.machine import describe_machine
from bench.measure import Load, metered
from bench.photographs_loop import CONFIG, Ahead, PhotoLoop, Processes
from bench.signals import end_on_sigterm
from pipeline.client import Client, Future
from pipeline.testing import running
from stages.batch import Array

__all__ = ["main", "report_of"]

_PHOTOS = Path(__file__).resolve().parents[1] / "photos"
#: Requests that are under way at once; a client waits for a slot if it has fewer.
_WINDOW = 48
#: Batches of other sizes add in another order.
_TOLERANCE = 1e-4

Classify = Callable[[Sequence[Array]], list[Array]]
_BY_HAND = ("loop", "loop-ahead", "processes")


def main() -> int:
    """Entry point; 1 if a score differs from the loop's."""
    options = _parser().parse_args()
    end_on_sigterm()
    machine = describe_machine()
    for key, value in machine.items():
        print(f"{key}: {value}")
    names = sorted(_PHOTOS.glob("*.jpg"))
    files = [np.fromfile(names[number % len(names)], np.uint8) for number in range(options.photographs)]
    with ExitStack() as stack:
        subjects, pids = _start(options, names, stack)
        truth = subjects["loop"](files[: len(names)])
        for classify in subjects.values():
            classify(files[: 2 * len(names)])
        taken = _measure(subjects, pids, files, options.rounds)
        for name, classify in subjects.items():
            if not _same(classify(files[: len(names)]), truth, name):
                return 1
    report = report_of(taken, len(files))
    _show(report)
    if options.json:
        written = {"format": 1, "machine": machine, "photographs": len(files), "subjects": report}
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 0


def _start(
    options: argparse.Namespace, names: Sequence[Path], stack: ExitStack
) -> tuple[dict[str, Classify], list[int]]:
    """All subjects, ready; and the processes that belong to them."""
    cores = len(os.sched_getaffinity(0))
    ahead, processes = Ahead(cores), Processes(cores, names)
    stack.callback(ahead.close)
    stack.callback(processes.close)
    subjects: dict[str, Classify] = {
        "loop": PhotoLoop(cores).classify, "loop-ahead": ahead.classify, "processes": processes.classify,
    }  # fmt: skip
    pids = [os.getpid(), *processes.pids]
    configs: dict[str, tuple[Path, list[str]]] = {"untuned": (CONFIG, [])}
    configs |= {name: (Path(path), []) for name, _, path in (each.partition("=") for each in options.config)}
    for each in options.set:
        name, _, assignments = each.partition("=")
        configs[name] = (CONFIG, assignments.split(","))
    for name, (config, assignments) in configs.items():
        served = stack.enter_context(running(config, assignments))
        client = stack.enter_context(served.client())
        subjects[name] = _asking(client)
        pids += [served.pid, *[child.pid for child in psutil.Process(served.pid).children()]]
    return subjects, pids


def _asking(client: Client) -> Classify:
    def classify(files: Sequence[Array]) -> list[Array]:
        flying: deque[Future] = deque()
        scores: list[Array] = []
        for file in files:
            if len(flying) == _WINDOW:
                scores.append(_scores(flying.popleft()))
            flying.append(client.submit(image=file))
        return scores + [_scores(future) for future in flying]

    return classify


def _scores(future: Future) -> Array:
    with future.get(60.0) as result:
        found: Array = np.array(result["scores"])
        return found


def _measure(
    subjects: dict[str, Classify], pids: list[int], files: Sequence[Array], rounds: int
) -> dict[str, list[Load]]:
    taken: dict[str, list[Load]] = {name: [] for name in subjects}
    names = list(subjects)
    for round_ in range(rounds):
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            with metered(pids) as load:
                subjects[name](files)
            taken[name].append(load())
    return taken


def _same(scores: Sequence[Array], truth: Sequence[Array], name: str) -> bool:
    if all(np.allclose(one, other, atol=_TOLERANCE) for one, other in zip(scores, truth)):
        return True
    sys.stderr.write(f"benchmark failed: {name} found other scores than the loop did\n")
    return False


def report_of(taken: dict[str, list[Load]], count: int) -> dict[str, Any]:
    """The figures of each subject.

    Args:
        taken: by subject what its turns took, in the order of the rounds.
        count: photographs of a turn.
    """
    rates = {name: [count / load.seconds for load in loads] for name, loads in taken.items()}
    best = max(_BY_HAND, key=lambda name: median(rates[name]))
    return {
        name: {
            "rate": _spread(rates[name]),
            "x": _spread([one / other for one, other in zip(rates[name], rates["loop"])]),
            "x_best": _spread([one / other for one, other in zip(rates[name], rates[best])]),
            "best": best,
            "cpu_ms": median(load.own_s / count * 1e3 for load in loads),
            "x_cpu": median(load.own_s / other.own_s for load, other in zip(loads, taken[best])),
            "foreign_cores": median(load.foreign_cores for load in loads),
        }
        for name, loads in taken.items()
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, high = np.percentile(values, [25, 75])
    return {"median": median(values), "low": float(low), "high": float(high)}


def _show(report: dict[str, Any]) -> None:
    print("\nphotographs/s   median  quartiles         x  quartiles     x best  quartiles    CPU ms  x CPU  foreign")
    for name, row in report.items():
        rate = row["rate"]
        cells = [f"{name:<14}", f"{rate['median']:>7.1f}  {rate['low']:>5.1f}-{rate['high']:<5.1f}"]
        cells += [
            f"{row[key]['median']:>8.2f}  {row[key]['low']:.2f}-{row[key]['high']:.2f}" for key in ("x", "x_best")
        ]
        print(" ".join(cells) + f" {row['cpu_ms']:>9.2f} {row['x_cpu']:>6.2f} {row['foreign_cores']:>8.2f}")
    print(f"\nthe fastest loop written by hand: {next(iter(report.values()))['best']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.photographs", description="configs/resnet.yaml beside loops written by hand."
    )
    parser.add_argument("--photographs", type=int, default=90, metavar="N", help="of each turn")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--config", action="append", default=[], metavar="NAME=FILE", help="another config")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=STAGE.FIELD=VALUE,...", help="as --set")
    parser.add_argument("--json", type=Path, metavar="bench/results/NAME.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
