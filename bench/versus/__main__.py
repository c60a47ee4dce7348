"""The command line of the outages; see `bench.versus`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import describe_machine
from bench.signals import end_on_sigterm
from bench.versus.environments import MissingEnvironment
from bench.versus.gateway import Gateway
from bench.versus.load import watched
from bench.versus.outage import Outage, outage_of, table
from bench.versus.subjects import gateway, triton
from bench.versus.triton import Triton

__all__ = ["main"]

#: Requests that the server may have at one time: more than callers, so that none waits for a slot.
_WINDOW = 32

_OURS = "pipeline serve"


class _Server(NamedTuple):
    name: str
    start: Callable[[Path, int, int], Any]
    victim: Callable[[Any], int]
    """The process that does the work of the second stage."""


def _worker_of(server: Gateway) -> int:
    return server.worker("b")


def _stub_of(server: Triton) -> int:
    return server.stub("b")


_SERVERS = (_Server(_OURS, gateway, _worker_of), _Server("Triton 2.51", triton, _stub_of))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 if a request of ours failed, 2 if Triton is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.versus",
        description="kill -9 of the process behind the second of three stages, under load: ours, and Triton's.",
    )
    parser.add_argument("--nbytes", type=int, default=602_112, help="of a tensor")
    parser.add_argument("--callers", type=int, default=8, help="threads that ask all the time")
    parser.add_argument("--before", type=float, default=3.0, help="seconds of load before the kill")
    parser.add_argument("--after", type=float, default=20.0, help="seconds of load after it")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds after which a caller gives up")
    parser.add_argument("--rounds", type=int, default=1, help="kills of each server, which is started anew for each")
    parser.add_argument("--json", type=Path, default=Path("build/versus-triton.json"))
    given = parser.parse_args(arguments)
    end_on_sigterm()
    machine = describe_machine()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()))
    print(f"{given.callers} callers over gRPC, {given.nbytes:,} B, three stages; kill -9 behind the second\n")
    sys.stdout.flush()
    outages: list[Outage] = []
    loads: list[float] = []
    try:
        for _ in range(given.rounds):
            for each in _SERVERS:
                loads.append(os.getloadavg()[0])
                outages.append(_outage(each, given))
    except MissingEnvironment as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = table(outages)
    print(f"{text}\n\nload of the machine before each: {', '.join(f'{load:.1f}' for load in loads)}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(_report(machine, given, loads, outages), indent=1) + "\n")
    failed = sum(sum(outage.failed.values()) for outage in outages if outage.subject == _OURS)
    if failed:
        print(f"FAILED: {failed} requests of {_OURS}", file=sys.stderr)
    return int(bool(failed))


def _outage(each: _Server, given: argparse.Namespace) -> Outage:
    with tempfile.TemporaryDirectory(prefix="trt-versus-") as folder:
        server = each.start(Path(folder), given.nbytes, _WINDOW)
        try:
            calls, looks, end = watched(
                server.grpc, given.nbytes, given.callers, given.before, given.after, given.patience,
                lambda: os.kill(each.victim(server), signal.SIGKILL),
            )  # fmt: skip
        finally:
            server.close()
    return outage_of(each.name, calls, looks, end)


def _report(
    machine: dict[str, str], given: argparse.Namespace, loads: list[float], outages: list[Outage]
) -> dict[str, Any]:
    return {
        "format": 1,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "nbytes": given.nbytes,
        "callers": given.callers,
        "before_s": given.before,
        "after_s": given.after,
        "patience_s": given.patience,
        "loads": loads,
        "outages": [asdict(outage) for outage in outages],
    }


if __name__ == "__main__":
    sys.exit(main())
