"""Soak: runs a pipeline of three steps and its clients, and carries out the events."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from bench.chaos.events import CALLERS, CLIENTS, LEAKER, Event, draw, draw_gateways
from bench.chaos.garbage import throw
from bench.chaos.gateway import Door
from bench.chaos.requests import HEAD, Rates, Request, request
from bench.chaos.tally import Tally, count
from bench.titles import one_in_role
from pipeline.client.status import ask_status
from pipeline.errors import Unavailable
from pipeline.testing.running import RunningPipeline, running
from pipeline.wire.links import Link
from pipeline.wire.status import PipelineStatus
from shm import leftovers

__all__ = ["PIPELINE", "Soak", "soak"]

_PLACES = 3

_SHM = Path("/dev/shm")
_FILLER = _SHM / "chaos-filler"

_GRACE_S = 10.0
"""Seconds within which the slots of the last dead client must come back."""

_DIED = re.compile(r": (?:the )?(\S+) died \((?:killed by signal \d+ \((\w+)\)|(exit code \d+|killed))")

PIPELINE: dict[str, Any] = {
    "name": "chaos",
    "inputs": [{"name": "values", "dtype": "int64", "shape": ["n"], "max": {"n": 64}}],
    "ingress": {"slots": 96},
    "canary": {"input": "canary.npy", "every_s": 0.5},
    "stages": [
        {"name": "first", "with": {"place": 0, "plus": 1, "ms": 5}, "batch": {"max_size": 4}},
        {"name": "cut", "use": "bench.chaos.stages:Cut", "colocate": True},
        {
            "name": "second",
            "with": {"place": 1, "times": 3, "ms": 5},
            "batch": {"max_size": 16, "max_delay_ms": 2},
            "inputs": ["cut.part"],
            "replicas": 2,
        },
        {"name": "join", "use": "bench.chaos.stages:Join", "inputs": ["second.values"]},
        {"name": "third", "with": {"place": 2, "plus": -7, "ms": 5}, "batch": {"max_size": 4}, "colocate": True},
    ],
}
"""Three steps, the second over the parts of each request; twice, two stages share a process.

All of its stages have a time limit, for the requests that hang; see `_config`.
"""

_TIMEOUT_MS = 1000


@dataclass(frozen=True, slots=True)
class Soak:
    """The settings of a soak."""

    requests: int = 10_000
    kills: int = 160
    seconds: float = 200.0
    seed: int = 1
    rates: Rates = field(default_factory=Rates)
    fill: bool = False
    """Whether no other process uses /dev/shm, so that it may be filled."""
    gateway_kills: int = 0
    """How often the gateway is killed; 0: there is none."""
    link: Link = "zmq"
    """What carries the pipeline's messages."""


def soak(wanted: Soak, say: Callable[[str], None] = lambda line: None) -> Tally:
    """Run one soak to its end, and count what happened."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return _Run(wanted, Path(folder), say).run()


def _config(folder: Path, link: Link) -> Path:
    stages = [
        {"use": "bench.chaos.stages:Step", "timeout_ms": _TIMEOUT_MS, **stage} for stage in PIPELINE["stages"]
    ]
    config = folder / "chaos.yaml"
    config.write_text(
        yaml.safe_dump({**PIPELINE, "link": link, "stages": stages, "capsules": {"folder": str(folder / "capsules")}})
    )
    canary = np.zeros(HEAD + 1, np.int64)
    canary[2] = -1
    np.save(folder / "canary.npy", canary)
    return config


class _Run:
    def __init__(self, wanted: Soak, folder: Path, say: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._folder = folder
        self._say = say
        self._rng = random.Random(wanted.seed)
        requests = [request(wanted.seed, n, wanted.rates, _PLACES) for n in range(1, wanted.requests + 1)]
        self._deeds = {request.number: request.deed for request in requests}
        self._clients_of_all = CLIENTS + (len(CALLERS) if wanted.gateway_kills else 0)
        self._shares: list[list[Request]] = [
            requests[share :: self._clients_of_all] for share in range(self._clients_of_all)
        ]
        events = draw(wanted.seed, wanted.seconds, wanted.kills)
        self._events = deque(sorted(events + draw_gateways(wanted.seed, wanted.seconds, wanted.gateway_kills)))
        self._door: Door | None = None
        #: Events whose victim was dead when they were due.
        self._late: list[Event] = []
        self._clients: dict[str, subprocess.Popen[bytes]] = {}
        self._finished: set[str] = set()
        #: (time, process) for the stopped processes.
        self._stopped: list[tuple[float, psutil.Process]] = []
        self._kills: Counter[str] = Counter()
        self._stops = self._garbage = self._truncated = self._fills = 0
        self._filled_until: float | None = None
        #: The last counts of each scheduler, by epoch.
        self._counts: dict[int, Mapping[str, int]] = {}

    def run(self) -> Tally:
        began = time.monotonic()
        with running(_config(self._folder, self._wanted.link)) as pipeline:
            if self._wanted.gateway_kills:
                self._door = Door(str(PIPELINE["name"]), self._folder / "gateway.log")
            gateway = (0, 0)
            try:
                hung = not self._endure(pipeline)
                if self._door is not None:
                    gateway = self._door.stop()
                slots = self._slots_out(pipeline)
            finally:
                for process in self._clients.values():
                    process.kill()
                    process.wait()
                if self._door is not None:
                    self._door.kill()
            exit_code = pipeline.stop()
            log = pipeline.log()
            name = pipeline.run_dir.name
        lines = [line for path in self._folder.glob("*.journal") for line in path.read_text().splitlines()]
        tally = count(self._deeds, lines)
        tally.hung, tally.slots_leaked, tally.exit_code = hung, slots, exit_code
        tally.segments_leaked = sum(found.run == name for found in leftovers.scan())
        tally.gateway_code, tally.gateway_left = gateway
        tally.kills, tally.stops, tally.garbage = self._kills, self._stops, self._garbage
        tally.truncated, tally.fills = self._truncated, self._fills
        for who, signalled, otherwise in _DIED.findall(log):
            tally.deaths[f"{who.split('/')[0]} {signalled or otherwise}"] += 1
        for counts in self._counts.values():
            tally.counts.update(counts)
        tally.seconds = time.monotonic() - began
        if tally.faults():
            self._say(log if self._door is None else log + self._door.log())
        return tally

    # -- during the soak ------------------------------------------------------------------------

    def _endure(self, pipeline: RunningPipeline) -> bool:
        """Run until every client has finished and every event has happened; False if that takes too long."""
        began = asked = time.monotonic()
        give_up = began + 3 * self._wanted.seconds + 60
        while self._events or self._late or len(self._finished) < self._clients_of_all:
            now = time.monotonic()
            if now > give_up:
                return False
            self._look_after_clients(pipeline.run_dir)
            late, self._late = self._late, []
            while self._events and self._events[0].at_s <= now - began:
                late.append(self._events.popleft())
            for event in late:
                self._happen(event, pipeline, now)
            self._wake(now)
            if now - asked > 1.0:
                asked = now
                self._ask(pipeline.run_dir)
                kills = sum(self._kills.values())
                self._say(f"{now - began:4.0f} s: {kills} kills, {len(self._events)} events to come")
            time.sleep(0.02)
        self._wake(float("inf"))
        return True

    def _look_after_clients(self, run_dir: Path) -> None:
        for number in range(self._clients_of_all):
            name = f"client/{number}"
            process = self._clients.get(name)
            if name in self._finished or (process is not None and process.poll() is None):
                continue
            if process is not None and process.returncode == 0:
                self._finished.add(name)
            else:
                self._clients[name] = self._start_client(run_dir, number)
        leaker = self._clients.get(LEAKER)
        if leaker is None or leaker.poll() is not None:
            self._clients[LEAKER] = _start("client", str(run_dir))

    def _start_client(self, run_dir: Path, number: int) -> subprocess.Popen[bytes]:
        journal = self._folder / f"{number}.journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        over = {int(line.split()[1]) for line in lines if line.startswith("a ")}
        told = {
            "seed": self._wanted.seed,
            "numbers": [request.number for request in self._shares[number] if request.number not in over],
            "rate": self._wanted.requests / self._clients_of_all / self._wanted.seconds,
            "rates": asdict(self._wanted.rates),
            "places": _PLACES,
            "name": f"client-{number}",
        }
        if number < CLIENTS:
            return _start("client", str(run_dir), str(journal), json.dumps(told))
        assert self._door is not None
        address = {"http": self._door.http, "grpc": self._door.grpc}[CALLERS[number - CLIENTS]]
        return _start("caller", address, str(journal), json.dumps(told))

    def _happen(self, event: Event, pipeline: RunningPipeline, now: float) -> None:
        if event.kind == "garbage":
            self._garbage += throw(pipeline.run_dir, self._rng)
            return
        if event.kind == "truncate":
            self._truncate(pipeline.run_dir.name)
            return
        if event.kind == "fill":
            if self._wanted.fill:
                self._fill(now + event.for_s)
            return
        process = self._find(event.victim, pipeline.pid)
        if process is None:
            # It is dead already: the event will hit the process that takes its place.
            if event.victim not in self._finished:
                self._late.append(event)
            return
        if event.kind == "kill":
            process.send_signal(event.signal)
            role = event.victim.split("/")[0]
            self._kills[f"{role} {signal.Signals(event.signal).name}"] += 1
        else:
            process.send_signal(signal.SIGSTOP)
            self._stops += 1
            self._stopped.append((now + event.for_s, process))

    def _truncate(self, run: str) -> None:
        """Cut off the slots of one pool, as a person might who cleans up /dev/shm by hand."""
        pools = [found for found in leftovers.scan() if found.run == run and found.pool != "recorder"]
        os.truncate(_SHM / self._rng.choice(pools).name.lstrip("/"), 0)
        self._truncated += 1

    def _fill(self, until: float) -> None:
        free = os.statvfs(_SHM)
        with _FILLER.open("wb") as file, contextlib.suppress(OSError):  # another process was faster
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        self._filled_until = until
        self._fills += 1

    def _wake(self, now: float) -> None:
        if self._filled_until is not None and self._filled_until <= now:
            _FILLER.unlink()
            self._filled_until = None
        for when, process in self._stopped:
            if when <= now and process.is_running():
                process.send_signal(signal.SIGCONT)
        self._stopped = [entry for entry in self._stopped if entry[0] > now]

    def _find(self, victim: str, supervisor: int) -> psutil.Process | None:
        """The living process in the role of `victim`."""
        if victim == "supervisor":
            return psutil.Process(supervisor)
        if victim in self._clients:
            process = self._clients[victim]
            return psutil.Process(process.pid) if process.poll() is None else None
        if self._door is not None and victim.startswith("gateway/"):
            return self._door.find(victim)
        return one_in_role(supervisor, victim)

    def _ask(self, run_dir: Path) -> PipelineStatus | None:
        try:
            status = ask_status(run_dir, timeout_s=1.0)
        except Unavailable:
            return None
        self._counts[status.epoch] = status.counts
        return status

    def _slots_out(self, pipeline: RunningPipeline) -> int:
        """Slots that are not free although no client is left."""
        leaker = self._clients[LEAKER]
        leaker.kill()
        leaker.wait()
        # The canary holds slots of its own; the supervisor starts it again, without any.
        end = time.monotonic() + _GRACE_S
        while True:
            status = self._ask(pipeline.run_dir)
            out = -1 if status is None else sum(pool.slots - pool.free for pool in status.pools)
            if status is not None:
                canary = [client for client in status.clients if client.name == "canary"]
                out -= sum(client.granted + client.borrowed + client.requests for client in canary)
            if out == 0 or time.monotonic() > end:
                return out
            time.sleep(0.05)


def _start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"bench.chaos.{module}", *arguments], cwd=os.getcwd())
