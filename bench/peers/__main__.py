"""The command line of `make bench-peers`; see `bench.peers`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from bench.measure import QUIET_CORES, Subject
from bench.peers.catalogue import PEERS, Peer, chosen
from bench.peers.environments import interpreter_of, prepare, version_of
from bench.peers.plot import draw
from bench.peers.rounds import Measured, in_rounds
from bench.peers.session import Session
from bench.peers.table import render
from bench.signals import end_on_sigterm

__all__ = ["main"]

#: A float32 image of 224x224.
_NBYTES = 602_112
_WINDOWS = (1, 16, 64)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 if a peer that was to be measured has failed on the way, 2 if none was left to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="This pipeline beside its peers.")
    which = f"of {','.join(PEERS)}; default: all"
    parser.add_argument("--peers", type=_peers, default=list(PEERS.values()), help=which)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each metered stretch")
    parser.add_argument("--out", type=Path, default=Path("build/bench-peers"), help="folder of table, JSON and plot")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    left_out, peers = _prepared(given.peers)
    if not peers:
        print("error: no peer is left to measure", file=sys.stderr)
        return 2
    subjects: dict[str, Callable[[], Subject]] = {
        peer.name: partial(Session, peer.name, interpreter_of(peer), peer.module) for peer in peers
    }
    try:
        measured = in_rounds(subjects, _NBYTES, _WINDOWS, given.rounds, given.seconds, _say)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for name, reason in measured.failed.items():
        print(f"{name} failed: {reason}", file=sys.stderr)
    _write(given, peers, measured, {**left_out, **measured.failed})
    return int(bool(measured.failed))


def _prepared(peers: Sequence[Peer]) -> tuple[dict[str, str], list[Peer]]:
    """Why peers have no environment, by name; and those that have theirs."""
    reasons: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for peer in peers:
        for folder in filter(None, (peer.environment, peer.server)):
            if folder not in reasons:
                _say(f"environment of {peer.name}: build/{folder}")
                reasons[folder] = prepare(folder)
            if reasons[folder]:
                left_out[peer.name] = reasons[folder]
                print(f"{peer.name} is left out: {reasons[folder]}", file=sys.stderr)
                break
    return left_out, [peer for peer in peers if peer.name not in left_out]


def _write(given: argparse.Namespace, peers: Sequence[Peer], measured: Measured, left_out: Mapping[str, str]) -> None:
    machine = describe_machine()
    versions = {peer.name: version_of(peer) for peer in peers}
    about = f"{given.rounds} rounds of {given.seconds:g} s a cell, interleaved; {_NBYTES:,} B, three idle stages."
    foreign = sorted(repeat.foreign_cores for cell in measured.cells for repeat in cell.repeats)
    busy = f"foreign load {foreign[len(foreign) // 2]:.2f} cores (median)" if foreign else ""
    note = f"{machine['CPU']}, {machine['cores']} cores, Python {machine['Python'].split()[-1]}; {busy}"
    page = render(measured.cells, peers, versions, left_out, machine, about)
    report: dict[str, Any] = {
        "format": 1,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "nbytes": _NBYTES,
        "quiet_cores": QUIET_CORES,
        "peers": [{**asdict(peer), "version": versions[peer.name]} for peer in peers],
        "left_out": dict(left_out),
        "cells": [asdict(cell) for cell in measured.cells],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "peers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (given.out / "peers.md").write_text(page, encoding="utf-8")
    (given.out / "peers.svg").write_text(draw(measured.cells, peers, note), encoding="utf-8")
    print(page, end="")
    print(f"\nwrote peers.md, peers.json and peers.svg into {given.out}", file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _peers(text: str) -> list[Peer]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
