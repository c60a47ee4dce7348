"""Schedule: when each request of a siege is due. Pure.

    func        requests per second at t seconds
    constant    rate
    linear      rate + alpha / 60 * t                       alpha: how much is added each minute
    cyclic      rate + alpha * sin(2 * pi * beta / 60 * t)  alpha: the amplitude; beta: cycles a minute

Each is at most `max_rate`, and at least 0: then no request is due. Request n, counted from 0, is due when the integral
of the function reaches n, so the first one is due at 0 s. The functions are those of tensorrt-laboratory's siege.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from pipeline.errors import ConfigError

__all__ = ["Func", "Rate"]

#: Seconds. Within a step the rate counts as what it is in the middle.
_STEP_S = 0.001
_STEPS_PER_CYCLE = 64
_LONGEST_CYCLE = 60_000.0
#: That of `--max_rate`, unless one is given.
_MAX_RATE = 100_000.0


class Func(str, Enum):
    """How the rate changes with time."""

    CONSTANT = "constant"
    LINEAR = "linear"
    CYCLIC = "cyclic"


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as a function of time.

    Args:
        func: which function.
        rate: requests per second at the beginning.
        alpha: of linear, requests per second and minute; of cyclic, the amplitude in requests per second.
        beta: of cyclic, cycles per minute.
        max_rate: requests per second at most.

    Raises:
        ConfigError: no request would ever be due, or a number is not what it must be.
    """

    func: Func = Func.CONSTANT
    rate: float = 1.0
    alpha: float = 0.0
    beta: float = 1.0
    max_rate: float = _MAX_RATE

    def __post_init__(self) -> None:
        for name in ("rate", "alpha", "beta", "max_rate"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"--{name}: expected a finite number, found {getattr(self, name)}")
        if self.rate < 0:
            raise ConfigError(f"--rate: expected 0 or more requests per second, found {self.rate:g}")
        if self.max_rate <= 0:
            raise ConfigError(f"--max_rate: expected more than 0 requests per second, found {self.max_rate:g}")
        if not 0 <= self.beta <= _LONGEST_CYCLE:
            raise ConfigError(f"--beta: expected 0 to {_LONGEST_CYCLE:.0f} cycles per minute, found {self.beta:g}")
        rises = {
            Func.CONSTANT: False,
            Func.LINEAR: self.alpha > 0,
            Func.CYCLIC: self.alpha != 0 and self.beta != 0,
        }
        if self.rate == 0 and not rises[self.func]:
            raise ConfigError(f"--rate 0 with --func {self.func.value}: no request would ever be due; give a rate")

    def at(self, seconds: float) -> float:
        """Requests per second, `seconds` after the beginning."""
        wanted = self.rate
        if self.func is Func.LINEAR:
            wanted += self.alpha / 60 * seconds
        elif self.func is Func.CYCLIC:
            wanted += self.alpha * math.sin(2 * math.pi * self.beta / 60 * seconds)
        return min(max(wanted, 0.0), self.max_rate)

    @property
    def ends_s(self) -> float:
        """Seconds after which no request is due any more; infinity if that never is so."""
        falls = self.func is Func.LINEAR and self.alpha < 0
        return -60 * self.rate / self.alpha if falls else math.inf

    def times(self, seconds: float | None = None) -> Iterator[float]:
        """The times at which requests are due, in seconds from the beginning, one after the other.

        Args:
            seconds: those before that time. None: all.
        """
        end = min(self.ends_s, math.inf if seconds is None else seconds)
        step_s = self._step_s
        # The part of a request that is still missing until the next one is due.
        missing, number, start = 0.0, 0, 0.0
        while start < end:
            rate = self.at(start + step_s / 2)
            room = rate * step_s
            while missing < room:
                due = start + missing / rate
                if due >= end:
                    return
                yield due
                missing += 1.0
            missing -= room
            number += 1
            start = number * step_s

    @property
    def _step_s(self) -> float:
        if self.func is Func.CONSTANT:
            return 1.0
        if self.func is Func.LINEAR or self.beta == 0:
            return _STEP_S
        return min(_STEP_S, 60 / self.beta / _STEPS_PER_CYCLE)

    def describe(self) -> str:
        """For a person: "cyclic 100/s, alpha 50, beta 6"."""
        text = f"{self.func.value} {self.rate:g}/s"
        if self.func is not Func.CONSTANT:
            text += f", alpha {self.alpha:g}"
        text += f", beta {self.beta:g}" if self.func is Func.CYCLIC else ""
        return text + (f", at most {self.max_rate:g}/s" if self.max_rate < _MAX_RATE else "")
