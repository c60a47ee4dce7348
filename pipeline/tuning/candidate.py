"""Candidate: a config with some fields changed, which may be better. Pure.

A change is what `--set` takes, as a path and a value: ("inference.batch.max_size", 8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["UNTUNED", "Candidate", "Changes", "Goal", "assignments_of", "merged", "written"]

Changes = tuple[tuple[str, int | float | bool], ...]


class Goal(str, Enum):
    """What is wanted of a pipeline."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A config that is tried."""

    label: str
    """For a person, what is different about it."""
    changes: Changes = ()
    """To the config as the user wrote it."""


UNTUNED = Candidate("untuned")
"""The config as it is: always among those that are tried."""


def assignments_of(changes: Changes) -> list[str]:
    """The changes as `--set` takes them."""
    return [f"{path}={written(value)}" for path, value in changes]


def written(value: float) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def merged(*groups: Iterable[tuple[str, int | float | bool]]) -> Changes:
    """All changes, each path once; a later group wins."""
    found: dict[str, int | float | bool] = {}
    for group in groups:
        found.update(group)
    return tuple(found.items())
