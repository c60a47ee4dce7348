"""The mistakes in a config: each with its place, all at once."""

from __future__ import annotations

import pytest

from pipeline.config.findings import Findings, Locations, Origin, dotted
from pipeline.errors import ConfigError

LOCATIONS = Locations(
    "a.yaml:1:1",
    {
        ("stages",): Origin("a.yaml:3:1", "a.yaml:4:3"),
        ("stages", 1, "batch"): Origin("a.yaml:9:5", "a.yaml:9:12"),
    },
)


def test_a_finding_names_the_place_of_the_value_or_of_its_key_and_its_path() -> None:
    findings = Findings(LOCATIONS)
    findings.add(("stages", 1, "batch"), "expected a mapping")
    findings.add(("stages", 1, "batch"), "is not known here", at_key=True)
    findings.add((), "is empty")
    with pytest.raises(ConfigError) as raised:
        findings.refuse()
    assert str(raised.value).splitlines() == [
        "a.yaml:9:12: stages[1].batch: expected a mapping",
        "a.yaml:9:5: stages[1].batch: is not known here",
        "a.yaml:1:1: is empty",
    ]


def test_what_was_not_written_has_the_place_of_the_nearest_node_around_it() -> None:
    assert LOCATIONS.value(("stages", 1, "batch", "max_size")) == "a.yaml:9:12"
    assert LOCATIONS.key(("stages", 1, "batch", "max_size")) == "a.yaml:9:12"
    assert LOCATIONS.value(("stages", 0)) == "a.yaml:4:3"
    assert LOCATIONS.value(("inputs", 0)) == "a.yaml:1:1"


def test_the_same_finding_is_told_once_and_none_is_no_error() -> None:
    findings = Findings(LOCATIONS)
    findings.refuse()
    for _ in range(2):
        findings.add(("stages",), "expected a list")
    assert len(findings) == 1


def test_a_path_is_written_as_people_do() -> None:
    assert dotted(("stages", 1, "batch", "max_size")) == "stages[1].batch.max_size"
    assert dotted(("name",)) == "name"
