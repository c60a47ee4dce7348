"""Paths: the files that the command line or the config's `run.inputs` names.

    FILE      that file; if it does not exist, that request fails
    FOLDER    its files that match one of the patterns and are not hidden, sorted by name
    GLOB      the files that it matches
    -         stdin

A file that is named twice is run twice. A folder or glob without files is reported and does not end the run.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["STDIN", "STDOUT", "Expansion", "expand", "is_same_file", "relative_to_here"]

STDIN = STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Expansion:
    """The files that were named."""

    files: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """One message for each folder and glob without files: its name, and the patterns."""


def expand(
    named: Iterable[str], patterns: Sequence[str] = ("*",), *, first_only: bool = False, without: str | None = None
) -> Expansion:
    """The files that are named, in order.

    Args:
        named: files, folders, globs, and `-`.
        patterns: which files of a folder are meant: `*.jpg`, ...
        first_only: look for one file of each folder and glob only.
        without: a file that is not an input even if it lies among them: the file for the answers.
    """
    expansion = Expansion()
    left_out = None if without in (None, STDIN) else os.path.realpath(without)
    for name in named:
        path = str(Path(name))
        if not name:
            # A variable of the shell was empty. `Path` would take it for the current folder.
            found, missing = [], "'': expected the name of a file, folder or glob"
        elif name == STDIN:
            found, missing = [STDIN], ""
        elif os.path.isdir(path):
            missing = f"{name}: no file in this folder matches {', '.join(patterns)}"
            try:
                names = _other_than(left_out, _files_in(path, patterns))
                found = [*_first(names)] if first_only else sorted(names)
            except OSError as error:
                found, missing = [], f"{name}: this folder cannot be read: {error.strerror}"
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = _other_than(left_out, glob.iglob(_literal_start(path), recursive=True))
            found = [*_first(matches)] if first_only else sorted(matches)
            missing = f"{name}: this pattern matches no file"
        else:
            found, missing = [path], ""
        if name != STDIN and STDIN in found:
            # There is a file of exactly that name.
            found = [f"./{STDIN}" if path == STDIN else path for path in found]
        expansion.files.extend(found)
        if not found:
            expansion.empty.append(missing)
    return expansion


def relative_to_here(named: Iterable[str], base_dir: Path) -> list[str]:
    """The names in a config in the folder `base_dir`, as a command line in the current folder would have them."""
    return [name if name == STDIN else os.path.relpath(base_dir / name) for name in named]


def _first(names: Iterator[str]) -> list[str]:
    return [name for name, _ in zip(names, range(1))]


def is_same_file(name: str, path: str) -> bool:
    """Whether a name is that of the file at `path`, which is a real path; cheap enough for a million names."""
    return os.path.basename(name) == os.path.basename(path) and os.path.realpath(name) == path


def _other_than(path: str | None, names: Iterator[str]) -> Iterator[str]:
    return names if path is None else (name for name in names if not is_same_file(name, path))


def _files_in(folder: str, patterns: Sequence[str]) -> Iterator[str]:
    match = re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns)).match
    hidden = any(pattern.startswith(".") for pattern in patterns)
    everything = "*" in patterns
    start = "" if folder == "." else os.path.join(folder, "")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            # Hidden files, such as those of a Mac or of git, are no inputs, as for a shell's `*`.
            if (name.startswith(".") and not hidden) or not (everything or match(name.lower())):
                continue
            # A link that leads nowhere is a request that fails; it is not skipped.
            if entry.is_file() or (entry.is_symlink() and not os.path.exists(start + name)):
                yield start + name


def _literal_start(pattern: str) -> str:
    """A glob whose first folders are taken literally, as far as folders of exactly these names exist."""
    parts = Path(pattern).parts
    known = 0
    while known < len(parts) - 1 and os.path.lexists(os.path.join(*parts[: known + 1])):
        known += 1
    return os.path.join(*map(glob.escape, parts[:known]), *parts[known:])
