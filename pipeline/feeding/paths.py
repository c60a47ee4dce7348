"""Paths: the files that the command line, or the config's `run.inputs`, names.

    FILE      that file, also where it does not exist: then that request fails
    FOLDER    its files, those that match one of the patterns and are not hidden, sorted by name
    GLOB      what it matches
    -         stdin

What is named twice is run twice. A folder or a glob that holds nothing is told, and ends nothing.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["STDIN", "Expansion", "expand", "relative_to_here"]

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Expansion:
    """What was named, as files."""

    files: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """For each folder and glob without a file: which, and what was looked for."""


def expand(named: Iterable[str], patterns: Sequence[str] = ("*",), *, first_only: bool = False) -> Expansion:
    """The files that are named, in order.

    Args:
        named: files, folders, globs, and `-`.
        patterns: which files of a folder are meant: `*.jpg`, ...
        first_only: look for one file of each folder and glob only.
    """
    expansion = Expansion()
    for name in named:
        path = str(Path(name))
        if not name:
            # Not the current folder, which `Path` makes of it: a variable of the shell is empty.
            found, missing = [], "'': expected the name of a file, folder or glob"
        elif name == STDIN:
            found, missing = [STDIN], ""
        elif os.path.isdir(path):
            names = _files_in(path, patterns)
            found = [*_first(names)] if first_only else sorted(names)
            missing = f"{name}: no file in this folder matches {', '.join(patterns)}"
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = glob.iglob(_literal_start(path), recursive=True)
            found = [*_first(matches)] if first_only else sorted(matches)
            missing = f"{name}: this pattern matches no file"
        else:
            found, missing = [path], ""
        if name != STDIN and STDIN in found:
            # A file of that name.
            found = [f"./{STDIN}" if path == STDIN else path for path in found]
        expansion.files.extend(found)
        if not found:
            expansion.empty.append(missing)
    return expansion


def relative_to_here(named: Iterable[str], base_dir: Path) -> list[str]:
    """What a config in the folder `base_dir` names, as a command line here would."""
    return [name if name == STDIN else os.path.relpath(base_dir / name) for name in named]


def _first(names: Iterator[str]) -> list[str]:
    return [name for name, _ in zip(names, range(1))]


def _files_in(folder: str, patterns: Sequence[str]) -> Iterator[str]:
    match = re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns)).match
    hidden = any(pattern.startswith(".") for pattern in patterns)
    everything = "*" in patterns
    start = "" if folder == "." else os.path.join(folder, "")
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                # Those that a Mac or a version control system has left are no inputs, as for a shell's `*`.
                if (hidden or not name.startswith(".")) and (everything or match(name.lower())) and entry.is_file():
                    yield start + name
    except OSError:
        return  # told as a folder without a file


def _literal_start(pattern: str) -> str:
    """A glob whose first folders, as far as they exist by just these names, are no pattern."""
    parts = Path(pattern).parts
    known = 0
    while known < len(parts) - 1 and os.path.lexists(os.path.join(*parts[: known + 1])):
        known += 1
    return os.path.join(*map(glob.escape, parts[:known]), *parts[known:])
