"""Halving: which candidate has the next turn, and which of them are given up. Pure.

    state                      all candidates of a step run, and wait for their turns
    next(now)  ──▶ Turn        measure this one for so long
    measured(turn, Measured)   what came of it
    next(now)  ──▶ None        the step is over: `standings` has the verdict

A *round* is one turn of every candidate that is left, in rotating order, the untuned config always among them. So what
others do with the machine meanwhile meets all of a round alike, and only ratios within a round count. After a *rung* of
some rounds the worse half of the candidates is given up, by the median of their ratios; the time of a step is divided
equally among its rungs. With one candidate left the step is over; a step that begins with one is a *duel*, which lasts
for its whole time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from pipeline.tuning.candidate import UNTUNED, Candidate, Goal

__all__ = ["Halving", "Measured", "Standing", "Turn", "quartiles"]

_LEAST_TURN_S, _MOST_TURN_S = 0.25, 2.0
_LEAST_ROUNDS, _WANTED_ROUNDS, _DUEL_ROUNDS = 2, 4, 12
#: Answers that a turn of the untuned config should have at least.
_LEAST_ANSWERS = 12
#: By chance alone, as many rounds or more would be won in fewer than one of twenty tunings.
_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement."""

    candidate: Candidate
    seconds: float
    round: int
    left: int
    """Candidates that are left, the untuned config included."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a turn has found."""

    rate: float
    """Answers a second."""
    p50_s: float
    p99_s: float

    def worth(self, goal: Goal) -> float:
        """The larger the better."""
        return self.rate if goal is Goal.THROUGHPUT else 1 / max(self.p50_s, 1e-9)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one candidate has done in a step."""

    candidate: Candidate
    rate: float
    """Medians over its rounds."""
    p50_s: float
    p99_s: float
    ratios: tuple[float, ...] = ()
    """Its worth divided by that of the untuned config, by round."""
    why_not: str = ""
    """The reason if it could not be measured."""

    @property
    def ratio(self) -> float:
        """The median of the ratios; 0 if there are none."""
        return median(self.ratios) if self.ratios else 0.0

    @property
    def beats(self) -> bool:
        """Whether it is better than the untuned config beyond noise.

        The sign test: if both were alike, each round would be won with a chance of a half; so many wins or more must
        then be rarer than one in twenty.
        """
        won = sum(ratio > 1 for ratio in self.ratios)
        rounds = len(self.ratios)
        chance = sum(math.comb(rounds, count) for count in range(won, rounds + 1)) / 2**rounds
        return rounds > 0 and chance < _CHANCE and self.ratio > 1


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third one, between values where necessary; 0 if there are none."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)

    def at(part: float) -> float:
        place = part * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.25), at(0.75)


@dataclass(slots=True)
class _Record:
    turns: dict[int, Measured] = field(default_factory=dict)
    why_not: str = ""


class Halving:
    """One step. Times are seconds of any clock.

    Args:
        goal: what is wanted.
        challengers: the candidates beside the untuned config, the most promising first.
        begins, ends: the time of the step.
    """

    def __init__(self, goal: Goal, challengers: Sequence[Candidate], begins: float, ends: float) -> None:
        self._goal = goal
        self._records = {candidate: _Record() for candidate in (UNTUNED, *challengers)}
        #: Those that still have turns.
        self.living: list[Candidate] = list(self._records)
        self._begins, self._ends = begins, ends
        #: A single challenger from the beginning: nothing to halve, only to make sure.
        self._duel = len(challengers) == 1
        self._rungs = max(1, math.ceil(math.log2(max(1, len(challengers)))))
        self._rung = 0
        self._rounds_of_rung = 0
        self._round = 0
        #: What is left of the round.
        self._waiting: list[Candidate] = []
        self._turn_s = 0.0
        self._begun = False

    @property
    def round(self) -> int:
        """Rounds that are complete."""
        return self._round

    def drop(self, candidate: Candidate, why: str) -> None:
        """It has no turns, or no more: it did not start, or its requests fail. It may be one that was no challenger."""
        self._records.setdefault(candidate, _Record()).why_not = why
        self.living = [one for one in self.living if one != candidate]
        self._waiting = [one for one in self._waiting if one != candidate]

    def next(self, now: float) -> Turn | None:
        """The next turn; None: the step is over."""
        if not self._waiting:
            if self._begun:
                self._round += 1
                self._rounds_of_rung += 1
                self._begun = False
                self._halve(now)
            if self._over(now):
                return None
            shift = self._round % len(self.living)
            self._waiting = self.living[shift:] + self.living[:shift]
            self._turn_s = self._seconds(now)
            self._begun = True
        return Turn(self._waiting[0], self._turn_s, self._round, len(self.living))

    def measured(self, turn: Turn, what: Measured) -> None:
        """That turn is over."""
        self._waiting.remove(turn.candidate)
        self._records[turn.candidate].turns[turn.round] = what

    def standings(self) -> list[Standing]:
        """Every candidate of the step, the best first: those that are left before those that were given up."""
        found = [self._standing(candidate) for candidate in self._records]
        return sorted(found, key=lambda one: (one.candidate in self.living, not one.why_not, one.ratio), reverse=True)

    def best(self) -> Standing | None:
        """The best of those beside the untuned config that is left; None: none was measured."""
        challengers = [
            one for one in self.standings() if one.candidate != UNTUNED and one.candidate in self.living and one.ratios
        ]
        return challengers[0] if challengers else None

    def of(self, candidate: Candidate) -> Standing:
        """How that one stands."""
        return self._standing(candidate)

    # -- inside -------------------------------------------------------------------------------------

    def _challengers(self) -> list[Candidate]:
        return [one for one in self.living if one != UNTUNED]

    def _rung_ends(self) -> float:
        return self._begins + (self._ends - self._begins) * (self._rung + 1) / self._rungs

    def _halve(self, now: float) -> None:
        """Give up the worse half, if the rung is over."""
        if self._duel or now < self._rung_ends() or self._rounds_of_rung < _LEAST_ROUNDS:
            return
        challengers = self._challengers()
        ranked = sorted(challengers, key=lambda one: -self._standing(one).ratio)
        kept = set(ranked[: (len(ranked) + 1) // 2])
        self.living = [one for one in self.living if one == UNTUNED or one in kept]
        self._rung = min(self._rung + 1, self._rungs - 1)
        self._rounds_of_rung = 0

    def _over(self, now: float) -> bool:
        left = len(self._challengers())
        if UNTUNED not in self.living or left == 0:
            return True
        if self._duel:
            return now >= self._ends and self._rounds_of_rung >= _LEAST_ROUNDS
        return (left == 1 and self._round > 0) or (now >= self._ends and self._round >= _LEAST_ROUNDS)

    def _seconds(self, now: float) -> float:
        """How long each turn of this round lasts."""
        left_s = max(0.0, (self._ends if self._duel else self._rung_ends()) - now)
        done = self._rounds_of_rung
        rounds = max(1, (_DUEL_ROUNDS if self._duel else _WANTED_ROUNDS) - done)
        wanted = min(max(left_s / (rounds * len(self.living)), _LEAST_TURN_S), _MOST_TURN_S)
        turns = self._records[UNTUNED].turns.values()
        # A slow pipeline has few answers in that time, and each is a large part of the rate.
        slow_s = _LEAST_ANSWERS / max(median(turn.rate for turn in turns), 1e-9) if turns else 0.0
        longest = max(wanted, left_s / (_LEAST_ROUNDS * len(self.living)))
        return min(max(wanted, slow_s), longest)

    def _standing(self, candidate: Candidate) -> Standing:
        record, untuned = self._records[candidate], self._records[UNTUNED].turns
        turns = list(record.turns.values())
        if not turns:
            return Standing(candidate, 0.0, 0.0, 0.0, (), record.why_not)
        ratios = tuple(
            what.worth(self._goal) / untuned[number].worth(self._goal)
            for number, what in record.turns.items()
            if number in untuned and untuned[number].worth(self._goal) > 0
        )
        return Standing(
            candidate,
            median(turn.rate for turn in turns),
            median(turn.p50_s for turn in turns),
            median(turn.p99_s for turn in turns),
            ratios,
            record.why_not,
        )
