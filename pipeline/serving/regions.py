"""Regions: system shared memory that clients have registered, read and written on its descriptor.

    register   name, key, offset, bytes ──▶ a descriptor of /dev/shm/KEY, opened once, by the keeper
    take       each gateway gets a copy of it: all have the same object, even if its name leads elsewhere by then
    infer      acquired ──▶ read (preadv) ... write (pwritev) ──▶ released
    unregister the name is free at once; the descriptor is closed when no request has it any more

There is no mapping: a client may truncate its memory at any time, and what reads a mapping there is killed by SIGBUS. A
key must begin with a prefix that the operator has allowed, and never is a segment of ours.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from pipeline.errors import KserveError
from pipeline.kserve.admission import check_region
from pipeline.kserve.settings import RegionEntry
from pipeline.kserve.values import Region

__all__ = ["Held", "Regions"]

#: Where glibc's shm_open has its objects.
_FOLDER = "/dev/shm"
_OURS = "/trtlab"
_KEY = re.compile(r"/[A-Za-z0-9_.-]{1,200}")
_MOST = 1024
"""Regions at one time: each is a descriptor."""


class _Opened:
    """A registered region, for as long as it is registered or a request has it."""

    def __init__(self, entry: RegionEntry, descriptor: int) -> None:
        self.entry = entry
        self.descriptor = descriptor
        self.users = 1

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            os.close(self.descriptor)


class Held:
    """The regions that one request names, which stay open while it runs."""

    def __init__(self, regions: Mapping[str, _Opened]) -> None:
        self._regions = regions

    def read(self, region: Region) -> memoryview:
        """Its bytes, as a copy: what the client writes meanwhile changes nothing of the request.

        Raises:
            KserveError: the client has made it shorter.
        """
        opened = self._regions[region.name]
        # Not a bytearray, which would be set to zero first. No byte of it is seen unless all were read.
        data = np.empty(region.nbytes, np.uint8).data
        view, at = data, opened.entry.offset + region.offset
        while view.nbytes:
            got = os.preadv(opened.descriptor, [view], at)
            if not got:
                raise _shrunk(region, region.nbytes - view.nbytes)
            view, at = view[got:], at + got
        return data

    def write(self, region: Region, data: memoryview) -> None:
        """Write bytes to its start.

        Raises:
            KserveError: they are more than it has, or the client has made it shorter.
        """
        if data.nbytes > region.nbytes:
            raise KserveError(
                f"shared memory region {region.name!r}: expected room for {data.nbytes} bytes of the output, found "
                f"{region.nbytes}"
            )
        opened = self._regions[region.name]
        at = opened.entry.offset + region.offset
        # To write behind the end would make it longer.
        if (size := os.fstat(opened.descriptor).st_size) < at + data.nbytes:
            raise _shrunk(region, max(0, size - at))
        view = data
        while view.nbytes:
            put = os.pwritev(opened.descriptor, [view], at)
            view, at = view[put:], at + put


def _shrunk(region: Region, found: int) -> KserveError:
    return KserveError(
        f"shared memory region {region.name!r}: expected {region.nbytes} bytes at {region.offset}, found {found}; it "
        f"was made shorter after it was registered"
    )


class Regions:
    """All that are registered.

    Args:
        prefixes: what keys must begin with; empty: none can be registered.
    """

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes
        self._opened: dict[str, _Opened] = {}

    def register(self, name: str, key: str, offset: int, nbytes: int) -> None:
        """Make a part of an object of shm_open known by a name.

        Raises:
            KserveError: the name is taken (ALREADY_EXISTS), the key is not allowed (PERMISSION_DENIED) or not there
                (INTERNAL, as Triton says), or the object is smaller than that.
        """
        if name in self._opened:
            raise KserveError(f"shared memory region {name[:200]!r} already in manager", "ALREADY_EXISTS")
        if not name or len(name) > 200:
            raise KserveError("expected a name of 1 to 200 characters for a shared memory region")
        if len(self._opened) >= _MOST:
            raise KserveError(f"expected at most {_MOST} shared memory regions, found more", "RESOURCE_EXHAUSTED")
        if not nbytes:
            raise KserveError(f"shared memory region {name!r}: expected a byte_size above 0, found 0")
        allowed = _KEY.fullmatch(key) is not None and key.startswith(self._prefixes) and not key.startswith(_OURS)
        if not self._prefixes or not allowed:
            raise KserveError(
                f"shared memory key {key[:200]!r}: this server takes keys that begin with "
                f"{' or '.join(self._prefixes) or 'nothing'}",
                "PERMISSION_DENIED",
            )
        try:
            descriptor = os.open(_FOLDER + key, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise KserveError(f"Unable to open shared memory region: {key!r}: {error.strerror}", "INTERNAL") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise KserveError(f"Unable to open shared memory region: {key!r}: it is no memory", "INTERNAL")
            if offset + nbytes > found.st_size:
                raise KserveError(
                    f"Invalid shared memory region: {key!r}: expected at most its {found.st_size} bytes, found "
                    f"{offset} + {nbytes}"
                )
        except BaseException:
            os.close(descriptor)
            raise
        self._opened[name] = _Opened(RegionEntry(name, key, offset, nbytes), descriptor)

    def take(self, entry: RegionEntry, descriptor: int) -> None:
        """A region that was registered elsewhere, and its descriptor, which is this object's from now on."""
        self.unregister(entry.name)
        self._opened[entry.name] = _Opened(entry, descriptor)

    def descriptor(self, name: str) -> int | None:
        """Of a region, as long as it is registered."""
        opened = self._opened.get(name)
        return None if opened is None else opened.descriptor

    def unregister(self, name: str) -> None:
        """Forget a region, or all of them if the name is empty. Unknown ones are forgotten already."""
        for each in [name] if name else list(self._opened):
            if (opened := self._opened.pop(each, None)) is not None:
                opened.leave()

    def status(self, name: str) -> list[RegionEntry]:
        """One region, or all of them if the name is empty.

        Raises:
            KserveError: there is none of that name (NOT_FOUND).
        """
        if name and name not in self._opened:
            raise KserveError(f"Unable to find system shared memory region: {name[:200]!r}", "NOT_FOUND")
        return [opened.entry for opened in self._opened.values() if name in ("", opened.entry.name)]

    @contextmanager
    def acquired(self, parts: Iterable[Region]) -> Iterator[Held]:
        """The regions of a request, while the block runs.

        Raises:
            KserveError: one is not registered (NOT_FOUND), or a part is not within it.
        """
        sizes = {name: opened.entry.nbytes for name, opened in self._opened.items()}
        held: dict[str, _Opened] = {}
        for part in parts:
            check_region(part, sizes)
            held[part.name] = self._opened[part.name]
        for opened in held.values():
            opened.users += 1
        try:
            yield Held(held)
        finally:
            for opened in held.values():
                opened.leave()
