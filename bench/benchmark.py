"""Benchmark: measures subjects at several sizes, prints tables, writes JSON, and ends cleanly if it is told to.

`bench.run` and `bench.callers` are two of them. README.md says how to read their tables.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.floors.slots import TornTensor, stride_of
from bench.machine import describe_machine
from bench.measure import QUIET_CORES, Cell, Subject, SubjectDied, allowed_windows, measure
from bench.table import DISTURBED, show
from pipeline.errors import PipelineError

__all__ = ["Benchmark"]

_AGAIN_S = 0.5


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its own command line."""

    module: str
    """What `python -m` runs."""
    description: str
    subjects: Mapping[str, Callable[[], Subject]]
    """By name. To measure something else, implement `bench.measure.Subject` and name it here."""
    sizes: Sequence[int]
    """Bytes of a tensor, unless --sizes says others."""
    windows: Sequence[int] | Mapping[str, Sequence[int]]
    """Requests in flight, of all subjects, which have a slot for each: then --windows and --slots-mib may change them.
    Or by the name of the subject."""
    reference: str
    """The subject by which others are divided."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Entry point; 1 if a tensor came back torn or a subject died."""
        options = self._parser().parse_args(arguments)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, _end)  # so that subjects are closed
        console = Console()
        machine = describe_machine()
        for key, value in machine.items():
            console.out(f"{key}: {value}", highlight=False)
        for line in (
            f"{options.rounds} rounds of {options.seconds} s a cell; x: p50 (W = 1) or requests/s, x CPU: CPU us, each",
            f"divided by that of {options.reference}; {DISTURBED}: over {QUIET_CORES} foreign cores in most rounds",
            "",
        ):
            console.out(line, highlight=False)
        cells: list[Cell] = []
        try:
            for nbytes in options.sizes:
                found, title = self._measure(console, nbytes, options)
                cells += found
                show(console, found, options.reference, title)
        except (TornTensor, SubjectDied, PipelineError) as error:
            sys.stderr.write(f"benchmark failed: {error}\n")
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(_report(machine, options, cells), indent=1) + "\n", encoding="utf-8")
        return 0

    def _measure(self, console: Console, nbytes: int, options: argparse.Namespace) -> tuple[list[Cell], str]:
        title = f"{nbytes:,} B"
        windows = self.windows
        if not isinstance(windows, Mapping):
            windows = allowed_windows(options.windows, stride_of(nbytes), options.slots_mib * 2**20)
            if max(windows) < max(options.windows):
                title += f" (at most W = {max(windows)}, not {max(options.windows)}: {options.slots_mib} MiB of slots)"
        makers = [self.subjects[name] for name in options.subjects]

        def say(text: str) -> None:
            # One write and no live display, whose thread would run beside the measured processes.
            if console.is_terminal:
                console.out(f"\r\x1b[K{text}", end="", highlight=False)

        cells = measure(makers, nbytes, windows, options.rounds, options.seconds, say, _closing)
        if console.is_terminal:
            console.out("\r\x1b[K", end="", highlight=False)
        return cells, title

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.description)
        names = [*self.subjects]
        which = f"of {','.join(names)}; default: all"
        parser.add_argument("--subjects", type=self._subjects, default=names, help=which)
        parser.add_argument("--sizes", type=_numbers, default=[*self.sizes], help="bytes of a tensor, comma-separated")
        if not isinstance(self.windows, Mapping):
            windows = [*self.windows]
            parser.add_argument("--windows", type=_numbers, default=windows, help="requests in flight, comma-separated")
            parser.add_argument(
                "--slots-mib", type=_positive, default=1024, help="most memory for slots; cuts the windows"
            )
        parser.add_argument("--rounds", type=_positive, default=3)
        parser.add_argument("--seconds", type=float, default=0.5, help="of each metered stretch")
        parser.add_argument(
            "--reference", choices=self.subjects, default=self.reference, help="x and x CPU divide by this subject"
        )
        parser.add_argument("--json", type=Path, metavar="bench/results/NAME.json", help="write every repeat there")
        return parser

    def _subjects(self, text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(self.subjects)):
            raise argparse.ArgumentTypeError(f"no subject {unknown[0]!r}; there are {', '.join(self.subjects)}")
        return names


def _end(*_: object) -> None:
    # Python prints and drops an exception of a handler in the middle of a finaliser: then it is raised once more.
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    sys.exit(128 + signal.SIGTERM)


def _closing() -> None:
    """The exception that ends the run was raised, and must not be raised again while a subject is closed."""
    signal.setitimer(signal.ITIMER_REAL, 0)


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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text}")
    return value


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]
