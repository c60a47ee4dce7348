"""Shards: the runs among which one pipeline's clients are shared out, behind one name; and the door to them.

    <home>/detect-29227/            of the *front*, the supervisor that was started; no client has its place there
        shards/                     0700, with a group 0750; a client holds it (flock) while it chooses
            0                       a link to the folder of shard 0, while that is there
    <home>/detect.0-29231/          shard 0, a run like any other, with a scheduler, workers and segments of its own
        front                       a link to the front

The name of a pipeline has no dot, so no client takes a shard for a pipeline of its own.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import Unavailable
from pipeline.wire.address import CLIENTS
from pipeline.wire.run_dir import FRONT, LOCK, READY, pipeline_of
from shm.owner import Alive, probe
from shm.permissions import open_to

__all__ = [
    "ShardLinks", "entered", "fewest", "front_of", "is_front", "is_shard", "make_door", "one_run", "shard_name",
    "shards_of",
]  # fmt: skip

_SHARDS = "shards"
_OPENED = 0o750

#: How long a client waits for one that chooses: that takes it a millisecond, unless it was stopped in the middle.
_DOOR_S = 0.02
_LOOK_S = 0.001


def shard_name(pipeline: str, number: int) -> str:
    """What the run of a shard is called."""
    return f"{pipeline}.{number}"


def is_shard(folder: Path) -> bool:
    """Whether the run in `folder` is a shard of another one."""
    return "." in pipeline_of(folder)


def front_of(folder: Path) -> Path:
    """The folder of the front of the shard in `folder`; of any other run its own."""
    if not is_shard(folder):
        return folder
    try:
        return folder.parent / os.path.basename(os.readlink(folder / FRONT))
    except OSError:
        return folder


def shards_of(folder: Path) -> list[Path]:
    """The folders of the shards of a front that are alive, by number; none if the run in `folder` is no front."""
    try:
        links = sorted((folder / _SHARDS).iterdir(), key=lambda link: (len(link.name), link.name))
    except OSError:
        return []
    found = []
    for link in links:
        with suppress(OSError):
            found.append(folder.parent / os.path.basename(os.readlink(link)))
    return [shard for shard in found if isinstance(probe(shard / LOCK), Alive)]


def one_run(folder: Path) -> Path:
    """The same folder, for a command that shows one scheduler.

    Raises:
        Unavailable: the run has several.
    """
    if is_front(folder):
        names = " or ".join(shard.name for shard in shards_of(folder)) or "none is alive now"
        raise Unavailable(f"{folder.name} has shards, and this is about one of them: name it ({names})")
    return folder


def is_front(folder: Path) -> bool:
    """Whether the run in `folder` has shards."""
    return os.access(folder / _SHARDS, os.F_OK)


def fewest(counts: Sequence[int | None], chance: float) -> int:
    """Which shard gets a new client: of those with the fewest clients any, so that many that come at once spread. Pure.

    Args:
        counts: of each shard its clients; None: this process may not see them. If one is None, any shard is chosen.
        chance: from 0, less than 1.
    """
    known = [count for count in counts if count is not None]
    least = min(known, default=0)
    best = [at for at, count in enumerate(counts) if len(known) < len(counts) or count == least]
    return best[int(chance * len(best))]


@contextmanager
def entered(folder: Path) -> Iterator[Path]:
    """The run in which a new client of `folder` must take its place, until the end of the block: if it is a front, the
    shard with the fewest clients; otherwise the run itself.

    Raises:
        Unavailable: none of its shards is alive.
    """
    if not is_front(folder):
        yield folder
        return
    with _closed(folder / _SHARDS):
        alive = shards_of(folder)
        # If none is ready, the client waits in one for its welcome.
        shards = [shard for shard in alive if (shard / READY).exists()] or alive
        if not shards:
            raise Unavailable(f"no shard of {folder.name} is alive; its supervisor starts them again")
        yield shards[fewest([_clients_in(shard) for shard in shards], random.random())]


@contextmanager
def _closed(door: Path) -> Iterator[None]:
    """While one client chooses and takes its place, others wait: otherwise all that come at once choose the same."""
    try:
        fd = os.open(door, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + _DOOR_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end:
                    break  # One that is stopped in the door keeps no other one out.
                time.sleep(_LOOK_S)
        yield
    finally:
        os.close(fd)


def _clients_in(shard: Path) -> int | None:
    """How many processes have a place there. The members of a group may not list them."""
    try:
        return sum(name.endswith(".lock") for name in os.listdir(shard / CLIENTS))
    except OSError:
        return None


def make_door(front: Path, group: int | None) -> None:
    """Make the folder through which clients of a front go, if it is missing.

    Args:
        front: the front's folder.
        group: whose members may be clients; None: this user alone.
    """
    door = front / _SHARDS
    if not door.is_dir():
        door.mkdir(mode=0o700)
        if group is not None:
            open_to(group, door, _OPENED)


class ShardLinks:
    """The front's links to its shards; made anew if they are removed.

    Args:
        front: the front's folder.
        group: whose members may be clients; None: this user alone.
    """

    def __init__(self, front: Path, group: int | None = None) -> None:
        self._folder = front / _SHARDS
        self._group = group
        self._names: dict[int, str] = {}
        self.renew()

    def lead(self, number: int, shard: str) -> None:
        """The shard of this number is the run whose folder has this name."""
        self._names[number] = shard
        fresh = self._folder / f"{number}.new"
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(Path("..") / ".." / shard)
            # At once: clients follow it at any time.
            fresh.rename(self._folder / str(number))

    def renew(self) -> None:
        """Make anew what was removed; what cannot be made now is tried again at the next call."""
        with suppress(OSError):
            make_door(self._folder.parent, self._group)
        for number, shard in self._names.items():
            if not (self._folder / str(number)).is_symlink():
                self.lead(number, shard)

    def remove(self) -> None:
        """The front leads nowhere any more."""
        with suppress(OSError):
            for link in self._folder.iterdir():
                link.unlink()
            self._folder.rmdir()
        self._names.clear()
