"""The runbook names metrics and alerts that exist, every alert leads to a section, and every section is caused by a test."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.metrics.catalogue import GATEWAY_METRICS, HOST_METRICS, METRICS, PROCESS_METRICS
from tests.docs.test_rules import rules
from tests.faults.runbook import ROWS

ROOT = Path(__file__).parents[2]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def test_every_metric_is_of_the_catalogue_with_its_labels() -> None:
    every = [*METRICS, *PROCESS_METRICS, *HOST_METRICS, *GATEWAY_METRICS]
    known = {f"{metric.name}{'_total' if metric.kind == 'counter' else ''}": metric for metric in every}
    for row in ROWS.values():
        if row.metric != "up":
            assert {*row.labels} <= {*known[row.metric].labels}, row.name
            assert (row.verb == "rises") == (known[row.metric].kind == "counter"), row.name


def test_every_alert_leads_to_a_section_that_names_it_and_every_one_that_is_named_exists() -> None:
    alerts = {rule["alert"]: rule["annotations"]["runbook"] for rule in rules() if "alert" in rule}
    named = {alert: set() for row in ROWS.values() for alert in row.alerts}  # type: dict[str, set[str]]
    for row in ROWS.values():
        for alert in row.alerts:
            named[alert].add(f"docs/runbook.md#{anchor(row.name)}")
    assert alerts.keys() == named.keys()
    for alert, runbook in alerts.items():
        assert runbook in named[alert], alert


def test_every_section_is_caused_by_a_test() -> None:
    text = (ROOT / "tests/faults/test_runbook.py").read_text()
    assert {name for name in ROWS if f'"{name}"' not in text} == set()


def test_every_field_that_it_names_is_one_of_the_yaml() -> None:
    fields: dict[str, set[str]] = {}
    section = ""
    for line in (ROOT / "docs/config.md").read_text().splitlines():
        if heading := re.match(r"## `(?:\w+(?:\[\])?\.)*(\w+)(?:\[\])?`", line):
            section = heading[1]
        elif field := re.match(r"\| `(\w+)` \|", line):
            fields.setdefault(section, set()).add(field[1])
    every = set().union(*fields.values())
    named = re.findall(r"`([a-z]+\.)?([a-z]+(?:_[a-z]+)*)`", (ROOT / "docs/runbook.md").read_text())
    assert len(named) > 10
    for section, name in named:
        if section and (inside := section.removesuffix(".")) in fields:
            assert name in fields[inside], f"{inside}.{name}"
        elif not section and "_" in name and not name.startswith("trtlab_"):
            assert name in every, name
