"""Requests: what each request of a soak is, and how it must end. Pure.

A request is one int64 vector of 4 to 64 numbers; the first three describe it:

    [number, deed, place, values ...]      deed: what it makes a stage do; place: the stage that does it

The stages leave these three alone and compute `3 * (value + 1) - 7`, one step each.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEEDS", "HEAD", "LONGEST", "Rates", "Request", "expected", "request"]

HEAD = 3
LONGEST = 64

Array = NDArray[np.int64]

DEEDS = {
    "innocent": ("ok",),
    "segfault": ("StageCrashed",),
    "abort": ("StageCrashed",),
    "exit": ("StageCrashed",),
    "kill": ("StageCrashed",),
    "hang": ("StageCrashed",),
    "bad": ("BadInput",),
    "hurried": ("ok", "DeadlineExceeded"),
}
"""The deeds and the possible ends of each; the number of a deed in a request is its position here."""

_DEADLY = ("segfault", "abort", "exit", "kill", "hang")


@dataclass(frozen=True, slots=True)
class Rates:
    """The share of each kind of request, of 1."""

    deadly: float = 0.002
    bad: float = 0.02
    hurried: float = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    number: int
    deed: str
    values: Array
    priority: int
    deadline_ms: float | None


def request(seed: int, number: int, rates: Rates, places: int) -> Request:
    """The request of that number, the same for the same seed."""
    rng = random.Random(f"{seed}/{number}")
    drawn = rng.random()
    deed = "innocent"
    for share, which in (
        (rates.deadly, rng.choice(_DEADLY)),
        (rates.bad, "bad"),
        (rates.hurried, "hurried"),
    ):
        if drawn < share:
            deed = which
            break
        drawn -= share
    values = np.array([rng.randrange(1 << 40) for _ in range(rng.randint(HEAD + 1, LONGEST))], np.int64)
    values[:HEAD] = number, list(DEEDS).index(deed), rng.randrange(places)
    deadline = rng.uniform(1.0, 60.0) if deed == "hurried" else None
    return Request(number, deed, values, rng.choice((0, 0, 0, 1, 2)), deadline)


def expected(values: Array) -> Array:
    """The answer of the pipeline to a request that does not fail."""
    answer = 3 * (values + 1) - 7
    answer[:HEAD] = values[:HEAD]
    return answer
