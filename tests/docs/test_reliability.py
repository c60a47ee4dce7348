"""What the page of reliability promises is proved by tests that exist, and every such test is on the page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_names_tests_that_exist_and_no_test_is_left_out() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    named = set()
    for row in re.findall(r"^\|.*\|$", page, re.MULTILINE)[2:]:
        *_, proof = row.strip("|").split("|")
        file, *tests = re.findall(r"`(test_\w+(?:\.py)?)`", proof)
        assert tests, row
        named |= {(file, test) for test in tests}
    there, foreign = (
        {
            (path.name, test)
            for path in (ROOT / folder).glob("test_*.py")
            for test in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        }
        for folder in ("tests/faults", "tests/foreign")
    )
    assert named <= there | foreign
    assert {name for name in there - named if name[0] != "test_chaos.py"} == set()
