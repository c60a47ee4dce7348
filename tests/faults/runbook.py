"""The runbook as tests read it: the metric and the line of the log that show a fault, and whether a run shows them."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.faults.load import until

__all__ = ["ROWS", "Row", "Watched"]

PAGE = Path(__file__).parents[2] / "docs/runbook.md"

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""(name, labels) -> value."""

UP: Samples = {("up", frozenset()): 1.0}
DOWN: Samples = {("up", frozenset()): 0.0}
"""What Prometheus makes of a scrape that fails."""

VERBS: dict[str, Callable[[float, float], bool]] = {
    "rises": lambda before, after: after > before,
    "grows": lambda before, after: after > before,
    "changes": lambda before, after: after != before,
    "stays": lambda before, after: after == before,
    "is 0": lambda before, after: after == 0,
}

_EVENTS = ("rises", "changes")


class Row(NamedTuple):
    """One section of the page."""

    name: str
    metric: str
    labels: dict[str, str]
    """Those with a value; a name alone stands for any."""
    verb: str
    line: re.Pattern[str]
    alerts: tuple[str, ...]

    @property
    def metric_text(self) -> str:
        """The metric, as far as the row says."""
        return self.metric + "".join(f"{name}={value}" for name, value in self.labels.items())

    def holds(self, before: Samples, after: Samples) -> bool:
        """Whether the metric shows the fault, in any series."""
        wanted = set(self.labels.items())
        # Of a counter that was not there before the rate is seen from its first value on.
        return any(
            name == self.metric and wanted <= labels and VERBS[self.verb](before.get((name, labels), 0.0), value)
            for (name, labels), value in after.items()
        )

    def is_said(self, log: str) -> bool:
        """Whether the log shows it."""
        return self.line.search(log) is not None


def _pattern(line: str) -> re.Pattern[str]:
    """`<word>` stands for a word, `<what ...>` for anything; before it stand a time, a process and a level."""
    parts = re.split(r"(<[^>]+>)", line)
    made = "".join((r".+" if part.endswith(" ...>") else r"\S+") if part.startswith("<") else re.escape(part) for part in parts)
    return re.compile(rf"(?:^|(?:warning|error|note|info): ){made}", re.MULTILINE)


def _row(name: str, fields: Mapping[str, str]) -> Row:
    metric, verb = re.fullmatch(r"`([^`]+)` (.+)", fields["metric"]).groups()  # type: ignore[union-attr]
    bare, _, labels = metric.partition("{")
    given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    (line,) = re.fullmatch(r"`([^`]+)`", fields["log"]).groups()  # type: ignore[union-attr]
    return Row(name, bare, given, verb, _pattern(line), tuple(re.findall(r"`(\w+)`", fields["alert"])))


def _rows() -> dict[str, Row]:
    _, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    rows = {}
    for section in sections:
        name = section.partition("\n")[0]
        rows[name] = _row(name, dict(re.findall(r"^\| (\w+) \| (.+) \|$", section, re.MULTILINE)))
    return rows


ROWS = _rows()
"""By the headings of the page."""


class Watched:
    """What an operator sees of a run.

    Args:
        url: of its metrics.
        log: gives its log so far.
    """

    def __init__(self, url: str, log: Callable[[], str]) -> None:
        self._url = url
        self.log = log

    def metrics(self) -> Samples:
        try:
            with urllib.request.urlopen(self._url, timeout=200) as answer:
                text = answer.read().decode()
        except OSError:
            return DOWN
        return UP | {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def shows(self, name: str, fault: Callable[[], object], also: Collection[str] = ()) -> None:
        """The fault is shown as its row says, and nothing else is.

        Args:
            name: of the row.
            also: the rows of what the fault brings with it.
        """
        row, before, offset = ROWS[name], self.metrics(), len(self.log())
        assert row.verb == "stays" or not row.holds(before, before), f"{name}: its metric shows it before it happens"
        fault()
        until(lambda: row.is_said(self.log()[offset:]) and row.holds(before, self.metrics()))
        log, after = self.log()[offset:], self.metrics()
        expected = {name, *also}
        assert {each.name for each in ROWS.values() if each.is_said(log)} <= expected, log
        # A gauge may be 0 for a moment while what has died is started again: that is no fault of its own.
        shown = {each.metric_text for each in ROWS.values() if each.verb in _EVENTS and each.holds(before, after)}
        assert shown <= {ROWS[each].metric_text for each in expected}
