"""Report: what a load generator has measured, as numbers, as JSON and as lines for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.load.histogram import PRECISION_PERCENT, Histogram
from pipeline.load.tally import Tally

__all__ = ["PERCENTILES", "Report", "percentiles_of"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_LATE_S = 0.001
_LATE_PART = 0.1


def percentiles_of(durations: Histogram) -> dict[str, float | None]:
    """In milliseconds: {"p50": ..., "p90": ..., "p99": ..., "p99.9": ..., "max": ..., "mean": ...}; of none, None.

    A siege that nothing has answered would otherwise have a p99 of 0 ms, which a limit on it would let pass.
    """
    found = {f"p{percent:g}": durations.percentile(percent) for percent in PERCENTILES}
    found |= {"max": durations.longest_s, "mean": durations.mean_s}
    return {name: round(seconds * 1e3, 6) if durations.count else None for name, seconds in found.items()}


@dataclass(frozen=True)
class Report:
    """The end of a siege or of a closed loop, or where it was interrupted."""

    target: str
    """The name or the URL that was given."""
    load: str
    """For a person: "siege, constant 200/s"."""
    inputs: str
    batch_size: int
    max_outstanding: int
    seconds: float
    """From the beginning to the last answer, or to the interruption."""
    tally: Tally
    wanted_rate: float | None = None
    """Requests per second that were due; None: a closed loop, which has no schedule."""
    unanswered: int = 0
    """Requests that were sent, and had no answer at the end."""
    oldest_s: float = 0.0
    """For how long the oldest of them had been due."""
    unsent: int = 0
    """Requests that were due and never sent."""
    interrupted: bool = False
    route: str = ""
    """How requests get there; empty: through shared memory."""
    late: float = field(init=False)
    """The 99th percentile of the generator's own lateness, in seconds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "late", self.tally.lateness.percentile(99))

    @property
    def open_loop(self) -> bool:
        """Whether requests were sent by a schedule."""
        return self.wanted_rate is not None

    @property
    def ok(self) -> bool:
        """Whether all requests were answered; at an interruption, all that had ended."""
        return not self.tally.failed and (self.interrupted or not (self.unanswered or self.unsent))

    def rates(self) -> dict[str, float]:
        """Requests per second; those that were sent and answered over the whole time."""
        tally = self.tally
        found = {} if self.wanted_rate is None else {"wanted": self.wanted_rate}
        found |= {"sent": _per(tally.sent, self._span_s), "answered": _per(tally.answered, self._span_s)}
        return found

    @property
    def _span_s(self) -> float:
        """Seconds that rates are over. The last request of a schedule has its gap, too: three at 3/s take a second."""
        if not self.wanted_rate:
            return self.seconds
        return max(self.seconds, (self.tally.sent + self.unsent) / self.wanted_rate)

    def warnings(self) -> Iterator[str]:
        """What makes the numbers other than they look."""
        tally = self.tally
        # Without an answer there are no latencies of which the lateness could be a part.
        judged = self.open_loop and tally.answered > 0
        if judged and self.late > _LATE_S and self.late > _LATE_PART * tally.latencies.percentile(50):
            yield (
                f"the generator itself was late: p99 of sending lateness {self.late * 1e3:.3g} ms, which is part of "
                f"the latencies; lower the rate, give it a core of its own, or start several generators"
            )
        if self.unanswered:
            yield (
                f"{self.unanswered} requests had no answer at the end, and are in no percentile; the oldest had been "
                f"due for {self.oldest_s:.3g} s"
            )
        if self.unsent:
            yield (
                f"{self.unsent} requests were due and never sent, and are in no percentile: the rate that was wanted "
                f"could not be held"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values; names end in their units."""
        tally = self.tally
        document: dict[str, Any] = {
            "target": self.target, "route": self.route, "load": self.load, "inputs": self.inputs,
            "batch_size": self.batch_size,
            "max_outstanding": self.max_outstanding, "interrupted": self.interrupted,
            "seconds": round(self.seconds, 6),
            "sent": tally.sent, "answered": tally.answered, "failed": tally.failed,
            "failures": {
                kind: {"count": count, "first": tally.messages[kind]} for kind, count in tally.failures.most_common()
            },
            "unanswered": self.unanswered, "unsent": self.unsent,
            "rate_per_s": {name: round(rate, 3) for name, rate in self.rates().items()},
            "rows_per_s": round(_per(tally.answered, self._span_s) * self.batch_size, 3),
            "precision_percent": PRECISION_PERCENT,
            "latency_ms": percentiles_of(tally.latencies),
        }  # fmt: skip
        if self.open_loop:
            document |= {
                "from_sending_ms": percentiles_of(tally.from_sending),
                "held_ms": percentiles_of(tally.held),
                "lateness_ms": percentiles_of(tally.lateness),
            }
        return {**document, "warnings": list(self.warnings()), "timeline": self._timeline()}

    def _timeline(self) -> dict[str, Any]:
        self.tally.timeline.settle()
        return {
            "step_s": self.tally.timeline.step_s,
            "rows": [
                {
                    "wanted": row.wanted, "sent": row.sent, "answered": row.answered, "failed": row.failed,
                    "p99_ms": round(row.p99_s * 1e3, 6),
                }
                for row in self.tally.timeline.rows
            ],
        }

    def head(self) -> Iterator[str]:
        """The first lines for a person."""
        tally = self.tally
        rows = "" if self.batch_size == 1 else f" of {self.batch_size} rows"
        yield f"{self.load}: {self.target}, at most {self.max_outstanding} outstanding"
        yield f"inputs: {self.inputs}"
        if self.route:
            yield f"over: {self.route}"
        lost = ((self.unanswered, "unanswered"), (self.unsent, "never sent"))
        rest = "".join(f", {count} {what}" for count, what in lost if count)
        when = f"in {self.seconds:.2f} s" + (", interrupted" if self.interrupted else "")
        yield f"{tally.sent} requests{rows} sent, {tally.answered} answered, {tally.failed} failed{rest} {when}"
        yield "rate: " + ", ".join(f"{name} {rate:.1f}/s" for name, rate in self.rates().items())

    def table(self) -> Iterator[tuple[str, Histogram, str]]:
        """The rows of percentiles: what, of which durations, and what that means."""
        tally = self.tally
        if not self.open_loop:
            yield "latency", tally.latencies, "from sending to the answer"
            return
        yield "latency", tally.latencies, "from when it was due to the answer"
        yield "  from sending", tally.from_sending, "from when it was sent to the answer"
        yield "  held", tally.held, f"due, but {self.max_outstanding} were outstanding"
        yield "  late", tally.lateness, "due and not held, but not sent: the generator itself"

    def failures(self) -> Iterator[str]:
        """A line for each kind of failure."""
        for kind, count in self.tally.failures.most_common():
            yield f"{count} x {kind}; the first: {self.tally.messages[kind]}"


def _per(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
