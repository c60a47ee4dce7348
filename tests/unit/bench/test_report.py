"""A run of the tests, as a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import main

RESULTS = """\
<testsuites><testsuite name="pytest">
<testcase classname="tests.gpu.test_a" name="test_one[a|b]" time="1.26" />
<testcase classname="tests.gpu.test_a" name="test_two" time="0.5"><failure message="assert 1 == 2&#10;more">...</failure></testcase>
<testcase classname="tests.gpu.test_b" name="test_three" time="0"><skipped message="one GPU only" /></testcase>
<testcase classname="tests.gpu.test_b" name="test_four" time="0"><error message="boom" /></testcase>
</testsuite></testsuites>
"""


def test_every_test_has_its_row_and_the_machine_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.xml"
    path.write_text(RESULTS)
    main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["# Tests", "", "1 passed, 2 failed, 1 skipped"]
    assert any(line.startswith("| Python | CPython ") for line in lines)
    assert lines[-4:] == [
        r"| test_a | test_one[a\|b] | passed | 1.3 |",
        "| test_a | test_two | **failed** assert 1 == 2 | 0.5 |",
        "| test_b | test_three | skipped one GPU only | 0.0 |",
        "| test_b | test_four | **error** boom | 0.0 |",
    ]
