"""Tally: how the requests of a soak ended, counted from the journals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.chaos.requests import DEEDS

__all__ = ["Tally", "count"]


@dataclass
class Tally:
    """The figures of one soak. `faults` names the figures that must be zero and are not."""

    sent: int = 0
    """How often requests were sent, repetitions included."""
    resent: int = 0
    """How many of these were repetitions because the scheduler, the client or the gateway had died."""
    broken: int = 0
    """Calls through the gateway that failed with their connection."""
    unavailable: int = 0
    """Calls through the gateway that heard that the pipeline is not there."""
    gateway_left: int = 0
    """Processes of `pipeline serve` after its end."""
    gateway_code: int = 0
    """Its exit code."""
    ends: Counter[str] = field(default_factory=Counter)
    """End -> number of requests."""
    lost: list[int] = field(default_factory=list)
    """Innocent requests that were not answered."""
    wrong: list[int] = field(default_factory=list)
    """Requests whose answer is not the function of their inputs."""
    misjudged: list[str] = field(default_factory=list)
    """Deadly or bad requests that ended otherwise than they must."""
    twice: int = 0
    slots_leaked: int = 0
    segments_leaked: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """Signals that were sent, as "worker SIGKILL"."""
    stops: int = 0
    garbage: int = 0
    truncated: int = 0
    fills: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    """Deaths that the supervisor saw, as "worker SIGSEGV"."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of all schedulers, one after the other."""
    exit_code: int = 0
    seconds: float = 0.0
    hung: bool = False

    def faults(self) -> list[str]:
        """The figures that must be zero and are not."""
        must_be_none = {
            "innocent requests lost": len(self.lost),
            "answered twice": self.twice,
            "wrong answers": len(self.wrong),
            "ended as they should not": len(self.misjudged),
            "slots leaked": self.slots_leaked,
            "segments leaked": self.segments_leaked,
            "exit code of the pipeline": self.exit_code,
            "exit code of pipeline serve": self.gateway_code,
            "processes of pipeline serve left": self.gateway_left,
            "did not come to an end": int(self.hung),
        }
        return [f"{what}: {figure}" for what, figure in must_be_none.items() if figure]

    def table(self) -> str:
        """For people."""
        deaths = sum(self.deaths.values())
        lines = [
            ("requests", f"{sum(self.ends.values())}, sent {self.sent} times, {self.resent} of them again"),
            ("answered", str(self.ends["ok"])),
            *((f"failed, {end}", str(number)) for end, number in sorted(self.ends.items()) if end != "ok"),
            ("kills", f"{sum(self.kills.values())}: {_listed(self.kills)}"),
            ("stopped for a while", str(self.stops)),
            ("garbage on sockets", f"{self.garbage} pieces"),
            ("segments truncated", str(self.truncated)),
            ("/dev/shm filled", str(self.fills)),
            ("deaths survived", f"{deaths}: {_listed(self.deaths)}"),
            ("calls whose connection broke", str(self.broken)),
            ("calls without a pipeline", str(self.unavailable)),
            ("retries", str(self.counts["retries"])),
            ("innocent requests lost", _named(self.lost)),
            ("answered twice", str(self.twice)),
            ("wrong answers", _named(self.wrong)),
            ("ended as they should not", _named(self.misjudged)),
            ("slots leaked", str(self.slots_leaked)),
            ("segments leaked", str(self.segments_leaked)),
            ("exit code of the pipeline", str(self.exit_code)),
            ("seconds", f"{self.seconds:.0f}"),
        ]
        return "\n".join(f"{what:30} {figure}" for what, figure in lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "none"


def _named(what: list[int] | list[str]) -> str:
    return f"{len(what)}: {', '.join(map(str, what[:10]))}" if what else "0"


def count(deeds: Mapping[int, str], journal: Iterable[str]) -> Tally:
    """What became of the requests `deeds` (number -> deed), by the lines of all journals."""
    tally = Tally()
    sent: Counter[int] = Counter()
    ends: dict[int, str] = {}
    for line in journal:
        kind, number, end = (*line.split(), "")[:3]
        if kind == "s":
            sent[int(number)] += 1
        elif kind == "b":
            tally.broken += 1
        elif kind == "u":
            tally.unavailable += 1
        elif kind == "t":
            tally.twice += int(number)
        elif kind == "a":
            # A client writes one end for each future, and never sends a request again that has an end.
            tally.twice += int(number) in ends
            ends[int(number)] = end
    tally.sent = sum(sent.values())
    tally.resent = sum(times - 1 for times in sent.values())
    tally.ends = Counter(ends.values())
    for request, deed in deeds.items():
        came_to = ends.get(request, "nothing")
        if came_to == "wrong":
            tally.wrong.append(request)
        elif came_to not in DEEDS[deed]:
            if deed == "innocent":
                tally.lost.append(request)
            else:
                tally.misjudged.append(f"{request} ({deed}: {came_to})")
    return tally
