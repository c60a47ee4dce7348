"""Events: what happens to which process and when, drawn from a seed. Pure."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

__all__ = ["CALLERS", "CLIENTS", "GATEWAY", "LEAKER", "SCHEDULER", "Event", "Kind", "draw", "draw_gateways"]

SCHEDULER = "scheduler"
CANARY = "canary"
LEAKER = "leaker"
SUPERVISOR = "supervisor"
GATEWAY = "gateway/0"
WORKERS = ("first+cut/0", "second/0", "second/1", "join+third/0")

CLIENTS = 4
"""The number of clients that send requests, named client/0 ..."""

CALLERS = ("http", "grpc")
"""Those that send theirs through the gateway, client/4 and client/5."""

Kind = str
"""kill; stop (SIGSTOP, and SIGCONT after a while); garbage on every socket; truncate (a segment of slots, to nothing);
fill (/dev/shm, for a while)."""

_SCHEDULER_APART_S = 13.0
"""If a scheduler dies more than five times a minute, it is given up."""

_CRASHES_APART_S = 2.0
"""A crash is blamed on the requests that run: two crashes that we cause must not meet the same request twice."""


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One event."""

    at_s: float
    kind: Kind
    victim: str = ""
    signal: int = 0
    for_s: float = 0.0


def draw(seed: int, seconds: float, kills: int) -> list[Event]:
    """The events of a soak in the order of time: `kills` kills, a stop for every four, garbage and a
    full /dev/shm for every ten."""
    rng = random.Random(seed)
    events: list[Event] = []
    last_scheduler = last_crash = float("-inf")
    for at in sorted(rng.uniform(0.5, 0.95 * seconds) for _ in range(kills)):
        roll = rng.random()
        number = signal.SIGKILL
        if roll < 0.12 and at - last_scheduler > _SCHEDULER_APART_S:
            victim, last_scheduler = SCHEDULER, at
            if rng.random() < 0.3:
                # The scheduler touches it and dies of it; other processes may too, also clients.
                events.append(Event(at, "truncate"))
                victim = rng.choice(WORKERS)
        elif roll < 0.18:
            victim = CANARY
        elif roll < 0.28:
            victim = f"client/{rng.randrange(CLIENTS)}"
        elif roll < 0.36:
            victim = LEAKER
        else:
            victim = rng.choice(WORKERS)
            if rng.random() < 0.5:
                crash = rng.choice((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTERM))
                if at - last_crash > _CRASHES_APART_S:
                    number, last_crash = crash, at
        events.append(Event(at, "kill", victim, number))
    for _ in range(kills // 4):
        victim = rng.choice((*WORKERS, SCHEDULER, SUPERVISOR, CANARY, "client/0", "client/1"))
        events.append(Event(rng.uniform(0.5, 0.95 * seconds), "stop", victim, for_s=rng.uniform(0.05, 0.6)))
    for _ in range(max(1, kills // 10)):
        events.append(Event(rng.uniform(0.5, 0.95 * seconds), "garbage"))
        events.append(Event(rng.uniform(0.5, 0.95 * seconds), "fill", for_s=rng.uniform(0.5, 3.0)))
    return sorted(events)


def draw_gateways(seed: int, seconds: float, kills: int) -> list[Event]:
    """Kills of the gateway, in the order of time; `draw` gives the same with and without them."""
    rng = random.Random(f"{seed}/gateway")
    times = sorted(rng.uniform(0.5, 0.95 * seconds) for _ in range(kills))
    return [Event(at, "kill", GATEWAY, signal.SIGKILL) for at in times]
