"""Folder: the repository of `pipeline serve --repository DIR`: which models its files are.

A model is a file directly in the folder whose name ends in .yaml or .yml and does not begin with a dot; its name is the
`name` in it. What comes over the network is such a name, never a path.

A symbolic link that stays within the folder is followed: so Kubernetes mounts a ConfigMap. One that leads out of it is
followed if the user who runs the keeper has made it, or root has; otherwise any user who may write here could have any
file of the keeper's user read as a config.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config.loader import load_config
from pipeline.errors import ConfigError

__all__ = ["Folder", "Found"]

_SUFFIXES = (".yaml", ".yml")


class Found(NamedTuple):
    """A file of the folder."""

    path: str
    why: str = ""
    """Why it cannot be served; empty: it can."""


class Folder:
    """The files of a folder.

    Args:
        assignments: what `--set` takes, for each of them.

    Raises:
        ConfigError: it is none, or cannot be read.
    """

    def __init__(self, path: Path, assignments: Sequence[str] = ()) -> None:
        self.path = path
        self._assignments = tuple(assignments)
        #: The model's name by what says that a file was not changed since; only of those that can be served.
        self._names: dict[tuple[str, int, int, int], str] = {}
        self.look()

    def look(self) -> dict[str, Found]:
        """The files by the name of their model. One that cannot be read has the name of the file.

        Raises:
            ConfigError: there is no such folder, or it cannot be read.
        """
        try:
            with os.scandir(self.path) as entries:
                listed = sorted([entry for entry in entries if _counts(entry.name)], key=lambda entry: entry.name)
        except OSError as error:
            raise ConfigError(f"{self.path}: expected a folder of YAML files: {error.strerror}") from None
        found: dict[str, Found] = {}
        wrong: dict[str, Found] = {}
        for entry in listed:
            path = os.path.join(self.path, entry.name)
            name, why = self._model_of(path)
            if why:
                wrong[entry.name] = Found(path, why)
            elif name in found:
                both = f"{found[name].path} and {path} both have the name {name!r}; give one of them another"
                found[name] = Found(path, both)
            else:
                found[name] = Found(path)
        for file, each in wrong.items():
            # Another file may have the name in it that this one has.
            stem = Path(file).stem
            found[file if stem in found else stem] = each
        return found

    def _model_of(self, path: str) -> tuple[str, str]:
        """The name of a file's model, and why it cannot be served."""
        stem = Path(path).stem
        try:
            if why := self._stranger(path):
                return stem, why
            there = os.stat(path)
            if not stat.S_ISREG(there.st_mode):
                return stem, f"{path}: expected a file, found something else"
            key = (path, there.st_ino, there.st_mtime_ns, there.st_size)
            if key not in self._names:
                self._names[key] = load_config(path, self._assignments).config.name
            return self._names[key], ""
        except ConfigError as error:
            return stem, str(error)
        except OSError as error:
            return stem, f"{path}: {error.strerror}"

    def _stranger(self, path: str) -> str:
        """Why a link is not followed; empty: it is, or it is none."""
        link = os.lstat(path)
        if not stat.S_ISLNK(link.st_mode) or link.st_uid in (0, os.geteuid()):
            return ""
        if Path(path).resolve().is_relative_to(self.path.resolve()):
            return ""
        return f"{path}: a symbolic link of another user that leads out of {self.path} is not followed"


def _counts(name: str) -> bool:
    return name.endswith(_SUFFIXES) and not name.startswith(".")
