"""Exporting: whether the export of traces that a config asks for can begin here, and the seed of its ids."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from msgspec.structs import replace

from pipeline.config.findings import Findings
from pipeline.graph.plan import Plan, TracingPlan

__all__ = ["check_tracing", "seeded"]

_NEEDED = "opentelemetry.exporter.otlp.proto"


def check_tracing(plan: TracingPlan, findings: Findings) -> None:
    """Refuse what the tracer process would only find out at its first export."""
    if not _found("http"):
        findings.add(("tracing",), 'the export of traces needs a package: pip install "trtlab[tracing]"')
    if plan.headers_file and not os.access(plan.headers_file, os.R_OK):
        findings.add(("tracing", "headers_file"), f"{Path(plan.headers_file).name}: expected a file that can be read")


def seeded(plan: Plan) -> Plan:
    """The plan of one run, whose spans have other ids than those of any other."""
    assert plan.tracing is not None
    return replace(plan, tracing=replace(plan.tracing, seed=os.urandom(16).hex()))


def _found(protocol: str) -> bool:
    try:
        return importlib.util.find_spec(f"{_NEEDED}.{protocol}") is not None
    except ModuleNotFoundError:
        return False
