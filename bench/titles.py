"""Titles: the processes below one, by what `ps` shows of them.

    pipeline[resnet] infer/0
                     └─ role: a worker's stage and number; or scheduler, source/door, shard 1, gateway/0, ...

A process may end while it is looked at: then it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil

__all__ = ["by_role", "in_role", "one_in_role"]


def by_role(pid: int, *, recursive: bool = False) -> Iterator[tuple[str, psutil.Process]]:
    """The living children of a process, each with its role; of what has no such title it is empty.

    Args:
        recursive: their children too, and so on.

    Raises:
        psutil.NoSuchProcess: the process itself is gone.
    """
    for child in psutil.Process(pid).children(recursive=recursive):
        with suppress(psutil.NoSuchProcess):  # a zombie, too
            name, *role = " ".join(child.cmdline()).split() or [""]
            yield " ".join(role) if name.partition("[")[0] == "pipeline" else "", child


def in_role(pid: int, role: str, *, recursive: bool = False) -> list[psutil.Process]:
    """Those in one role.

    Raises:
        psutil.NoSuchProcess: the process itself is gone.
    """
    return [child for found, child in by_role(pid, recursive=recursive) if found == role]


def one_in_role(pid: int, role: str, *, recursive: bool = False) -> psutil.Process | None:
    """The first of them; None: there is none now.

    Raises:
        psutil.NoSuchProcess: the process itself is gone.
    """
    return next(iter(in_role(pid, role, recursive=recursive)), None)
