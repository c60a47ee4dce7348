"""Findings: the mistakes in a config, each with the place at which it was written.

The loader and the planner collect them, so that an author sees every mistake at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.errors import ConfigError

__all__ = ["Findings", "Locations", "NodePath", "Origin", "dotted"]

#: Path of a value in the document: `("stages", 1, "batch", "max_size")`.
NodePath = tuple[str | int, ...]


class Origin(NamedTuple):
    """The places of a key and its value: `configs/resnet.yaml:14:9`, or the text of a `--set`."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Locations:
    """The place of each node of a document."""

    root: str
    """The beginning of the document: `configs/resnet.yaml:1:1`."""
    origins: Mapping[NodePath, Origin] = field(default_factory=dict)

    def key(self, path: NodePath) -> str:
        """The place of the key that leads to `path`, or of the nearest node around it."""
        return self.origins[path].key if path in self.origins else self.value(path[:-1])

    def value(self, path: NodePath) -> str:
        """The place of the value at `path`, or of the nearest node around it."""
        while path:
            if path in self.origins:
                return self.origins[path].value
            path = path[:-1]
        return self.root


class Findings:
    """A growing list of findings."""

    def __init__(self, locations: Locations) -> None:
        self._locations = locations
        self._lines: list[str] = []

    def add(self, path: NodePath, message: str, *, at_key: bool = False) -> None:
        """Note `message` about the node at `path`; `at_key` points at its key instead of its value."""
        place = self._locations.key(path) if at_key else self._locations.value(path)
        line = f"{place}: {dotted(path)}: {message}" if path else f"{place}: {message}"
        if line not in self._lines:
            self._lines.append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def refuse(self) -> None:
        """Raise the findings, if there are any.

        Raises:
            ConfigError: there is at least one finding; each is a line of the message.
        """
        if self._lines:
            raise self.error()

    def error(self) -> ConfigError:
        """The findings as an error to raise."""
        return ConfigError("\n".join(self._lines))


def dotted(path: NodePath) -> str:
    """`stages[1].batch.max_size`: a path as a person writes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
