"""The rules for Prometheus read metrics that exist, and each alert has an example in which it is raised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RequestError
from pipeline.metrics.catalogue import GATEWAY_METRICS, HOST_METRICS, METRICS, PROCESS_METRICS

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def document(name: str) -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(found, dict)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in document("rules.yaml")["groups"] for rule in group["rules"]]


def test_every_name_in_a_rule_is_of_a_metric_or_of_a_rule_before_it() -> None:
    every = [*METRICS, *PROCESS_METRICS, *HOST_METRICS, *GATEWAY_METRICS]
    known = {f"{metric.name}{suffix}" for metric in every for suffix in _SUFFIXES[metric.kind]}
    for rule in rules():
        named = set(re.findall(r"\btrtlab[\w:]*", re.sub(r'"[^"]*"', "", rule["expr"])))
        assert named <= known, rule
        known.add(rule.get("record", ""))


def test_every_code_in_a_rule_is_one_that_answers_have() -> None:
    codes = {"OK", *(cls.code for cls in RequestError.__subclasses__())}
    named = {code for rule in rules() for text in re.findall(r'code!?[=~]+"([^"]*)"', rule["expr"]) for code in text.split("|")}
    assert named <= codes
    assert "Overloaded" in named


def test_every_bound_in_a_rule_is_a_buckets() -> None:
    bounds = {str(bound) for metric in METRICS for bound in metric.bounds}
    assert {le for rule in rules() for le in re.findall(r'le="([^"]*)"', rule["expr"])} <= bounds


def test_each_alert_has_an_example_in_which_it_is_raised_and_one_in_which_it_is_not() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    examples = [case for test in document("rules_test.yaml")["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in examples if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in examples if not case["exp_alerts"]} == alerts
