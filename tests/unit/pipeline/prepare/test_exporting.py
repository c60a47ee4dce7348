"""Whether the export of traces can begin here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config.findings import Findings, Locations
from pipeline.prepare.exporting import check_tracing


def findings_of(headers_file: str = "") -> str:
    findings = Findings(Locations("a.yaml:1:1"))
    tracing: Any = SimpleNamespace(headers_file=headers_file)
    check_tracing(tracing, findings)
    return str(findings.error())


def test_a_file_of_headers_that_cannot_be_read_is_named_without_its_folder(tmp_path: Path) -> None:
    told = findings_of(str(tmp_path / "headers"))
    assert "tracing.headers_file: headers: expected a file that can be read" in told
    assert str(tmp_path) not in told
    (tmp_path / "headers").write_text("a=b")
    assert "headers" not in findings_of(str(tmp_path / "headers"))


@pytest.mark.parametrize("missing", ["the package", "all of OpenTelemetry"])
def test_without_the_package_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        if missing != "the package":
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert 'pip install "trtlab[tracing]"' in findings_of()
