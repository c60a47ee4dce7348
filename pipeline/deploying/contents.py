"""Contents: what a config needs beside itself, and its image must have. Reads the config, and looks for files.

The options of a stage are the class's own: a text is taken for a file if there is one of that name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.document import read_document
from pipeline.config.expansion import expand_document
from pipeline.config.loader import LoadedConfig
from stages.catalogue import ASSETS

__all__ = ["Contents", "contents_of"]


@dataclass(frozen=True, slots=True)
class Contents:
    """Each sorted, and once."""

    files: tuple[str, ...] = ()
    """Files and folders as the config names them: relative to its own folder, or absolute."""
    assets: tuple[str, ...] = ()
    """Models and label sets of the catalogue."""
    variables: tuple[str, ...] = ()
    """Environment variables that the config reads."""


class _Read(dict[str, str]):
    """The environment, which notes what is asked for; a variable that is missing is empty, for it is the pod's."""

    def __init__(self) -> None:
        super().__init__(os.environ)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().get(name, "")

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def contents_of(loaded: LoadedConfig) -> Contents:
    """What the config, as it was loaded with its `--set`s, needs beside itself."""
    config = loaded.config
    texts = [text for stage in config.stages for text in _texts(stage.options)]
    named = [name for stage in config.stages for name in _files_of(stage.use.rpartition(":")[0])]
    named += [text for text in texts if text not in ASSETS]
    if config.canary is not None:
        named.append(config.canary.input)
    read = _Read()
    document, _ = read_document(loaded.path)
    expand_document(document, read, lambda path, message: None)
    return Contents(
        files=tuple(sorted({name for name in named if _exists(loaded.base_dir, name)})),
        assets=tuple(sorted({text for text in texts if text in ASSETS})),
        # A home folder is read for ~; every container has one.
        variables=tuple(sorted(read.names - {"HOME"})),
    )


def _files_of(module: str) -> list[str]:
    """The files or folders that may lie beside the config for `./glue.py`, or for a module."""
    package = module.partition(".")[0]
    return [module] if module.endswith(".py") else [package, f"{package}.py"]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _exists(base_dir: Path, name: str) -> bool:
    try:
        return bool(name) and (base_dir / name).exists()
    except (OSError, ValueError):  # too long for a file's name, or with a NUL
        return False
