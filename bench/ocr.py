"""`python -m bench.ocr`: pages a second of configs/ocr.yaml, beside a plain loop over the same models in the same run.

    loop        one process, one thread
    loop-all    one process, as many threads in each model as there are CPUs
    pipeline    `pipeline run configs/ocr.yaml --serve`, fed through the client that applications use

Every answer of the pipeline is compared with the loop's, box for box and string for string; if one differs, the run
ends with status 1. Subjects take turns in rotating order; a value is the median over the rounds, with the lowest and
highest. Foreign cores are those that were busy with other work in the worst round: if they are many, rates mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.machine import describe_machine
from bench.measure import Load, metered
from bench.ocr_loop import CONFIG, OcrLoop
from bench.ocr_pages import page_of, words
from bench.signals import end_on_sigterm
from pipeline.client import Client, Future
from pipeline.testing import running

__all__ = ["main"]

Lines = list[dict[str, Any]]

#: Messages that one page with one line of text takes: client, decode, detect, boxes, crop, recognise, text, lines.
_HOPS = 8
#: The number of slots that one client gets of the config's ingress.
_WINDOW = 6


def main() -> int:
    """Entry point; 1 if an answer differs from the loop's."""
    options = _parser().parse_args()
    end_on_sigterm()
    for key, value in describe_machine().items():
        print(f"{key}: {value}")
    pages = [page_of(words(lines, 6, seed)) for seed, lines in enumerate(options.lines * options.pages)]
    single = page_of(words(1, 6))
    loops = {"loop": OcrLoop(threads=1), "loop-all": OcrLoop(threads=os.cpu_count() or 1)}
    # The first page of a shape takes onnxruntime longer; and these are the answers that the pipeline must give.
    truth = [loops["loop"].read(page) for page in pages]
    for page in (*pages, single):
        loops["loop-all"].read(page)
    with running(CONFIG, options.set) as pipeline, pipeline.client() as client:
        subjects: dict[str, Callable[[], list[Lines]]] = {
            "loop": lambda: [loops["loop"].read(page) for page in pages],
            "loop-all": lambda: [loops["loop-all"].read(page) for page in pages],
            "pipeline": lambda: _flow(client, pages),
        }
        _flow(client, pages)
        taken: dict[str, list[Load]] = {name: [] for name in subjects}
        names = list(subjects)
        children = [child.pid for child in psutil.Process(pipeline.pid).children()]
        pids = [os.getpid(), pipeline.pid, *children]
        for round_ in range(options.rounds):
            shift = round_ % len(names)
            for name in names[shift:] + names[:shift]:
                with metered(pids) as load:
                    answers = subjects[name]()
                taken[name].append(load())
                if name != "loop-all" and answers != truth:
                    sys.stderr.write(f"benchmark failed: {name} read something else than the loop did at first\n")
                    return 1
        hop = _hop_us(client, single)
    report = {
        "pages": len(pages),
        "lines": sum(map(len, truth)),
        "pages_per_s": {name: _spread([len(pages) / load.seconds for load in loads]) for name, loads in taken.items()},
        "cpu_ms": {name: _spread([load.own_s / len(pages) * 1e3 for load in loads]) for name, loads in taken.items()},
        "foreign_cores": {name: max(load.foreign_cores for load in loads) for name, loads in taken.items()},
        "hop_us": _spread(hop),
    }
    _show(report)
    if options.json:
        written = {"format": 1, "machine": describe_machine(), "set": options.set, **report}
        options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 0


def _flow(client: Client, pages: Sequence[bytes]) -> list[Lines]:
    """Every page through the pipeline, several in flight; the answers in the order of the pages."""
    flying: deque[Future] = deque()
    answers: list[Lines] = []
    for page in pages:
        if len(flying) == _WINDOW:
            answers.append(_lines(flying.popleft()))
        flying.append(client.submit(image=page))
    return answers + [_lines(future) for future in flying]


def _lines(future: Future) -> Lines:
    with future.get(60.0) as result:
        lines: Lines = result["lines"]
        return lines


def _hop_us(client: Client, page: bytes, repeats: int = 30) -> list[float]:
    """The time of a message without computing, and without waiting for it: one page of one line at a time."""
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        with client.submit(image=page).get(60.0) as result:
            ms = (time.perf_counter() - start) * 1e3
            computing = sum(stage["compute_ms"] for stage in result.stages.values())
        samples.append((ms - computing) / _HOPS * 1e3)
    return samples


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def _show(report: dict[str, Any]) -> None:
    print(f"\n{report['pages']} pages, {report['lines']} lines of text\n")
    print("pages/s     median   low-high         x   CPU ms a page   foreign cores")
    reference = report["pages_per_s"]["loop-all"]["median"]
    for name, rate in report["pages_per_s"].items():
        low_high = f"{rate['low']:.2f}-{rate['high']:.2f}"
        cpu, foreign = report["cpu_ms"][name]["median"], report["foreign_cores"][name]
        x = rate["median"] / reference
        print(f"{name:<10} {rate['median']:>7.2f}   {low_high:<11} {x:>6.2f} {cpu:>15.0f} {foreign:>15.2f}")
    hop = report["hop_us"]
    print(f"\na hop: {hop['median']:.0f} us ({hop['low']:.0f}-{hop['high']:.0f}), with no other page in flight")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.ocr", description="configs/ocr.yaml beside a plain loop.")
    parser.add_argument("--lines", type=_numbers, default=[1, 4, 8, 16], help="lines of text of the pages, in turn")
    parser.add_argument("--pages", type=int, default=4, help="how often these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.FIELD=VALUE", help="as for pipeline run")
    parser.add_argument("--json", type=Path, metavar="bench/results/NAME.json")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
