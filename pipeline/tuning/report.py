"""Report: what a tuning has found, as lines for a person, as a table, and as the head of the YAML it writes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.tuning.candidate import UNTUNED, Candidate, Goal, assignments_of
from pipeline.tuning.halving import Standing, quartiles

__all__ = ["Report", "Step"]

#: CPUs that may be busy with other things on a quiet machine.
_QUIET = 0.25


@dataclass(frozen=True)
class Step:
    """One step of a tuning, when it was over."""

    title: str
    standings: Sequence[Standing]
    """The best first, the untuned config among them."""
    won: Candidate
    """The best one, which the next step begins with; perhaps the one that it began with."""

    @property
    def best(self) -> Candidate:
        """The one that is marked as the best: the untuned config, if the one that has won is not ahead of it here.

        A duel is always won by the one that was to be made sure of, also if the untuned config is ahead of it.
        """
        ahead = any(one.candidate == self.won and one.ratios and one.ratio > 1 for one in self.standings)
        return self.won if ahead else UNTUNED


@dataclass(frozen=True)
class Report:
    """The end of a tuning, or where it was interrupted."""

    config: str
    goal: Goal
    inputs: str
    outstanding: int
    """Requests under way at once; 1 for latency."""
    seconds: float
    machine: str
    costs: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds that each stage computed for a request that was alone in the pipeline."""
    steps: Sequence[Step] = ()
    interrupted: bool = False
    foreign: float = 0.0
    """CPUs that other programs kept busy before it began."""

    @property
    def winner(self) -> Standing | None:
        """The best of all, by the last step that has an answer; None: nothing was measured."""
        for step in reversed(self.steps):
            for standing in step.standings:
                if standing.candidate == step.won and standing.ratios:
                    return standing
        return None

    @property
    def beats(self) -> bool:
        """Whether the winner is another config than the untuned one, and better beyond noise."""
        winner = self.winner
        return winner is not None and winner.candidate != UNTUNED and winner.beats

    def head(self) -> Iterator[str]:
        """The first lines for a person."""
        yield f"tune for {self.goal.value}: {self.config}, {self.outstanding} under way, on {self.machine}"
        yield f"inputs: {self.inputs}"
        total = sum(self.costs.values()) or 1.0
        parts = [f"{stage} {cost:.2f} ms ({100 * cost / total:.0f} %)" for stage, cost in self.costs.items()]
        if parts:
            yield f"one request alone computes: {', '.join(parts)}"

    def rows(self, step: Step) -> Iterator[tuple[str, ...]]:
        """The table of a step: candidate, rate, p50 and p99 in ms, ratio, its quartiles, rounds won of rounds, note."""
        for one in step.standings:
            note = one.why_not or ("best" if one.candidate == step.best else "")
            if not one.ratios:
                yield (one.candidate.label, "-", "-", "-", "-", "-", "-", note or "not measured")
                continue
            low, high = quartiles(one.ratios)
            won = sum(ratio > 1 for ratio in one.ratios)
            yield (
                one.candidate.label,
                f"{one.rate:.1f}",
                f"{one.p50_s * 1e3:.2f}",
                f"{one.p99_s * 1e3:.2f}",
                f"{one.ratio:.2f}",
                f"{low:.2f}-{high:.2f}",
                "-" if one.candidate == UNTUNED else f"{won} of {len(one.ratios)}",
                note,
            )

    def verdict(self) -> Iterator[str]:
        """What it comes to."""
        if self.foreign > _QUIET:
            yield (
                f"other programs kept {self.foreign:.1f} CPUs busy: an arrangement of more processes got more of the "
                f"machine for that alone; tune again when it is quiet"
            )
        winner = self.winner
        if self.interrupted:
            what = "before anything was measured" if winner is None else "this is the best so far"
            yield f"interrupted after {self.seconds:.0f} s: {what}"
        if winner is None:
            yield "nothing was measured beside the untuned config; the tables say why"
        elif winner.candidate == UNTUNED:
            yield "nothing beats the untuned config"
        elif not winner.beats:
            won = sum(ratio > 1 for ratio in winner.ratios)
            yield (
                f"nothing beats the untuned config beyond noise: the best other one, {winner.candidate.label}, is at "
                f"{winner.ratio:.2f} of it, and was ahead in {won} of {len(winner.ratios)} rounds; give it more "
                f"--minutes, or a machine that does less beside it"
            )
        else:
            low, high = quartiles(winner.ratios)
            what = "requests/s" if self.goal is Goal.THROUGHPUT else "the inverse of p50"
            yield (
                f"{winner.candidate.label}: {winner.ratio:.2f} of the untuned config in {what} "
                f"(quartiles {low:.2f} to {high:.2f}, {len(winner.ratios)} rounds)"
            )
            yield f"as options: {' '.join(f'--set {each}' for each in assignments_of(winner.candidate.changes))}"

    def comments(self, date: str) -> Iterator[str]:
        """The head of the YAML that is written: what each step brought, without the signs of a comment.

        Args:
            date: of the tuning, as it is written.
        """
        yield f"Tuned for {self.goal.value} by `pipeline tune`, {date}, on {self.machine}, from {self.config}."
        yield f"Samples: {self.inputs}; {self.outstanding} under way. Ratios to the untuned config, medians of rounds:"
        for step in self.steps:
            standing = next((one for one in step.standings if one.candidate == step.won and one.ratios), None)
            if standing is None:
                continue
            low, high = quartiles(standing.ratios)
            spread = f"{standing.ratio:.2f} ({low:.2f} to {high:.2f})"
            what = "stays as it is" if step.won == UNTUNED else f"{step.won.label}: {spread}"
            yield f"  {step.title}: {what}"
