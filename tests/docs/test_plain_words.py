"""Sources and pages name the actor, a scheduler, a worker or a client, and no person that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_WORDS = ("whoever", "nobody", "somebody", "everybody")
#: In names such as `NOBODY` and `kills_nobody` too.
_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_WORDS)})(?![a-z])|\b(?:is|are) to be\b", re.IGNORECASE)

#: Files, and folders with all that is in them, that have none of these words. A file that becomes clean is added.
CLEAN = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "bench",
    "configs",
    "deploy",
    "docs",
    "examples",
    "models",
    "pipeline",
    "shm",
    "stages",
    "tests",
)
#: This file, which has the words themselves.
APART = ("tests/docs/test_plain_words.py",)


def texts_of(name: str) -> Iterator[Path]:
    """The sources and pages of a file or folder of the repository."""
    path = ROOT / name
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    yield from (
        file
        for file in found
        if file.suffix in (".py", ".md", ".yaml") and str(file.relative_to(ROOT)) not in APART
    )


def words_in(text: str) -> list[str]:
    """The lines with such a word, each with its number."""
    return [f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if _WORD.search(line)]


@pytest.mark.parametrize("name", CLEAN)
def test_the_actor_is_named(name: str) -> None:
    files = list(texts_of(name))
    assert files != []
    found = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in words_in(file.read_text(encoding="utf-8"))]
    assert found == [], "name the scheduler, the worker, the client or the process"


def test_the_words_are_found_in_prose_and_in_names_and_not_in_other_words() -> None:
    text = "Nobody waits.\ndef kills_nobody(): ...\nNOBODY = 1\nsomebodys = 2\nIt is to be kept.\nThis to be sure.\n"
    assert words_in(text) == [
        "1: Nobody waits.", "2: def kills_nobody(): ...", "3: NOBODY = 1", "5: It is to be kept.",
    ]  # fmt: skip
