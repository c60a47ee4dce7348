"""`python -m bench.run`: measure every subject at every size, print tables, write JSON.

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.floors.eventfd_ring import EventfdRing
from bench.floors.slots import TornTensor, stride_of
from bench.floors.zmq_ring import ZmqRing
from bench.machine import describe_machine
from bench.measure import QUIET_CORES, Cell, Subject, SubjectDied, allowed_windows, measure
from bench.relay import PipelineRelay
from bench.table import DISTURBED, show

__all__ = ["SUBJECTS", "main"]

#: Every subject. To measure something else, implement `bench.measure.Subject` and name it here.
SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "pipeline": PipelineRelay,
    "colocated": lambda: PipelineRelay(colocate=True),
    "zmq-2": lambda: ZmqRing(2),
    "zmq-3": lambda: ZmqRing(3),
    "zmq-5": lambda: ZmqRing(5),
    "eventfd-2": lambda: EventfdRing(2),
    "eventfd-3": lambda: EventfdRing(3),
}

#: 4 KiB; a float32 image of 224x224; full HD and 4K UHD in uint8 RGB.
SIZES = (4096, 602_112, 6_220_800, 24_883_200)
WINDOWS = (16, 64)

_AGAIN_S = 0.5


def main() -> int:
    """Entry point; 1 if a tensor came back torn or a subject died."""
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)  # so that subjects are closed
    console = Console()
    machine = describe_machine()
    for key, value in machine.items():
        console.out(f"{key}: {value}", highlight=False)
    console.out(
        f"{options.rounds} rounds of {options.seconds} s a cell; x: p50 (W = 1) or requests/s, x CPU: CPU us, each\n"
        f"divided by that of {options.reference}; {DISTURBED}: foreign load over {QUIET_CORES} cores in most rounds\n",
        highlight=False,
    )
    cells: list[Cell] = []
    try:
        for nbytes in options.sizes:
            found, title = _measure(console, nbytes, options)
            cells += found
            show(console, found, options.reference, title)
    except (TornTensor, SubjectDied) as error:
        sys.stderr.write(f"benchmark failed: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(_report(machine, options, cells), indent=1) + "\n", encoding="utf-8")
    return 0


def _end(*_: object) -> None:
    # Python prints and drops an exception of a handler in the middle of a finaliser: then it is raised once more.
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    sys.exit(128 + signal.SIGTERM)


def _closing() -> None:
    """The exception that ends the run was raised, and must not be raised again while a subject is closed."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _measure(console: Console, nbytes: int, options: argparse.Namespace) -> tuple[list[Cell], str]:
    budget = options.slots_mib * 2**20
    windows = allowed_windows(options.windows, stride_of(nbytes), budget)
    title = f"{nbytes:,} B"
    if max(windows) < max(options.windows):
        title += f" (at most W = {max(windows)}, not {max(options.windows)}: {options.slots_mib} MiB of slots)"
    makers = [SUBJECTS[name] for name in options.subjects]

    def say(text: str) -> None:
        # One write and no live display, whose thread would run beside the measured processes.
        if console.is_terminal:
            console.out(f"\r\x1b[K{text}", end="", highlight=False)

    cells = measure(makers, nbytes, windows, options.rounds, options.seconds, say, _closing)
    if console.is_terminal:
        console.out("\r\x1b[K", end="", highlight=False)
    return cells, title


def _report(machine: Mapping[str, str], options: argparse.Namespace, cells: list[Cell]) -> dict[str, Any]:
    """Every repeat as it was measured; readers compute medians and ratios themselves."""
    return {
        "format": 1,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "reference": options.reference,
        "quiet_cores": QUIET_CORES,
        "cells": [asdict(cell) for cell in cells],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="A relay of tensors beside its floors.")
    names = ",".join(SUBJECTS)
    parser.add_argument("--subjects", type=_subjects, default=list(SUBJECTS), help=f"of {names}; default: all")
    parser.add_argument("--sizes", type=_numbers, default=list(SIZES), help="bytes of a tensor, comma-separated")
    parser.add_argument("--windows", type=_numbers, default=list(WINDOWS), help="requests in flight, comma-separated")
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each metered stretch")
    parser.add_argument("--slots-mib", type=_positive, default=1024, help="most memory for slots; cuts the windows")
    parser.add_argument("--reference", choices=SUBJECTS, default="zmq-2", help="x and x CPU divide by this subject")
    parser.add_argument("--json", type=Path, metavar="bench/results/NAME.json", help="write every repeat there")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text}")
    return value


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _subjects(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(SUBJECTS)):
        raise argparse.ArgumentTypeError(f"no subject {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
