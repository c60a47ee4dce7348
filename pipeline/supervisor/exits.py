"""Exits: how a child has ended, as a value."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Exit"]


class Exit(msgspec.Struct, frozen=True):
    """How a child has ended, as far as the supervisor's process can tell."""

    how: str
    """For people: "exit code 1", "killed by signal 9 (SIGKILL)", with its last lines."""
    code: int
    """Exit code; negative: the signal that killed it."""
    running: Mapping[int, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """The requests that it was computing, by the stage that computed them; if it was computing none, its last ones."""
    finished: Mapping[int, int] = msgspec.field(default_factory=dict)
    """For each of its stages the batches that all workers have finished so far, dead ones included."""
    out_of_memory: bool = False
    """The kernel killed a process because memory was short, while this one lived."""
    rows: Mapping[int, int] = msgspec.field(default_factory=dict)  #: By stage, `WorkerGone.row`.
