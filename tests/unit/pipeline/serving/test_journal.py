from __future__ import annotations

import pytest

from pipeline.serving.journal import Journal
from tests.entries import lines_of


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return "\n".join(lines_of(capsys.readouterr().err))


def test_a_request_is_told_from_verbose_1_on(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal()
    journal.request("GET /v2", 200, 0)
    assert lines(capsys) == ""
    journal.settings = {**journal.settings, "log_verbose_level": 1}
    journal.request("GET /v2", 200, 0)
    assert "info: GET /v2: 200, " in lines(capsys)


def test_a_fault_has_its_traceback_unless_errors_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal()
    journal.fault("ModelInfer", ZeroDivisionError("why"))
    assert "error: ModelInfer: ZeroDivisionError: why" in lines(capsys)
    journal.settings = {**journal.settings, "log_error": False}
    journal.fault("ModelInfer", ZeroDivisionError("why"))
    assert lines(capsys) == ""


def test_what_is_worth_knowing_is_told_unless_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal()
    journal.info("here")
    assert "info: here" in lines(capsys)
    journal.settings = {**journal.settings, "log_info": False}
    journal.info("here")
    assert lines(capsys) == ""
