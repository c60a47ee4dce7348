"""The glossary has each term once, in one line, in the order of the alphabet."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
SECTIONS = [re.findall(r"^\* \*\*(.+?)\*\*: .+\.$", part, re.MULTILINE) for part in PAGE.split("\n## ")[1:]]


def test_every_entry_is_one_line_with_a_term_and_a_sentence() -> None:
    entries = [line for line in PAGE.splitlines() if line.startswith("*")]
    assert len(entries) == sum(map(len, SECTIONS)) > 60
    assert [line for line in entries if len(line) > 120] == []


def test_the_terms_of_a_section_are_sorted_and_no_term_has_two_meanings() -> None:
    for terms in SECTIONS:
        assert terms == sorted(terms)
    everything = [term for terms in SECTIONS for term in terms]
    assert len(everything) == len(set(everything))


def test_the_readme_and_the_design_lead_to_it() -> None:
    assert "](docs/glossary.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](glossary.md)" in (ROOT / "docs/design.md").read_text(encoding="utf-8")
