"""Regions: system shared memory for large tensors, if the server is on this host and lets clients register any.

    make        an object of /dev/shm, filled with pages at once ──▶ the server opens it (register) ──▶ its name goes
    acquired    by one request: inputs written, outputs read; then free for the next one
    retired     if the request ended before the server's answer: the server may still write there, so none has it again
    end         the server is told to let go (unregister); the kernel frees what no process has open

An object has a name only from its making until the server has it: a death in between leaves a name, which the guard
removes (`guard`), as it tells the server to let go. Nothing is mapped here: a server could make the object shorter, and
what reads a mapping there is killed.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pipeline.errors import KserveError
from pipeline.remote.guard import Guard
from shm.layout import round_up

__all__ = ["PREFIX", "SMALLEST", "Arena", "Leased", "aligned"]

PREFIX = "/remote-"
"""How the names of these objects begin, unless the caller says otherwise; a server may take some beginnings only."""
SMALLEST = 64 << 10
"""Tensors below this many bytes travel in the message: that takes less time."""

_FOLDER = "/dev/shm"
_LEAST = 256 << 10
#: Bytes of all regions of one server.
_MOST = 256 << 20
#: Seconds after which the server is taken to be done with a retired one.
_RETIRED_S = 60.0
_ASK_S = 2.0
#: Errors after which the server may have done what it was asked, or not.
_NO_ANSWER = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")


class Leased:
    """A region that one request has."""

    def __init__(self, arena: Arena, name: str, descriptor: int, nbytes: int) -> None:
        self._arena = arena
        self.name = name
        self._descriptor = descriptor
        # A descriptor that was closed may be another file's.
        self._mutex = threading.Lock()
        self.nbytes = nbytes
        self.retired_at = 0.0

    def write(self, at: int, data: memoryview) -> None:
        """Put bytes there."""
        with self._mutex:
            while data.nbytes:
                put = os.pwrite(self._descriptor, data, at)
                data, at = data[put:], at + put

    def read(self, at: int, nbytes: int) -> memoryview:
        """A copy of its bytes.

        Raises:
            KserveError: the server has made it shorter.
        """
        made = bytearray(nbytes)
        view = memoryview(made)
        with self._mutex:
            while view.nbytes:
                got = os.preadv(self._descriptor, [view], at) if self._descriptor >= 0 else 0
                if not got:
                    found = nbytes - view.nbytes
                    raise KserveError(f"shared memory: expected {nbytes} bytes, found {found}", "INTERNAL")
                view, at = view[got:], at + got
        return memoryview(made).toreadonly()

    def close(self) -> None:
        """No byte of it is read or written here any more."""
        with self._mutex:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def give_back(self) -> None:
        """The server is done with it."""
        self._arena.give_back(self)

    def retire(self) -> None:
        """The server may still be at it."""
        self._arena.retire(self)


class Arena:
    """All regions of one server.

    Args:
        ask: asks the server; see `Link.ask`.
        guard: makes what cleans up after a death of this process.
        prefix: of names; it begins with a slash.
    """

    def __init__(self, ask: Callable[..., Any], guard: Callable[[], Guard], prefix: str = PREFIX) -> None:
        self._ask = ask
        self._make_guard = guard
        self._prefix = prefix
        self._guard: Guard | None = None
        self._mutex = threading.RLock()
        self._free: list[Leased] = []
        self._used: set[Leased] = set()
        self._retired: list[Leased] = []
        #: Why there are none; empty: there are.
        self.why = ""
        self._closed = False

    def acquire(self, nbytes: int) -> Leased | None:
        """A region of at least so many bytes; None: there is none to be had."""
        with self._mutex:
            if self.why or self._closed:
                return None
            self._end_retired()
            fitting = [each for each in self._free if each.nbytes >= nbytes]
            if fitting:
                found = min(fitting, key=lambda each: each.nbytes)
                self._free.remove(found)
                self._used.add(found)
                return found
            size = max(_LEAST, 1 << (nbytes - 1).bit_length())
            if size + self._nbytes() > _MOST:
                # Those of other sizes give way.
                while self._free and size + self._nbytes() > _MOST:
                    self._end(self._free.pop())
                if size + self._nbytes() > _MOST:
                    return None
        made = self._make(size)
        return None if made is None else self._lent(made)

    def _lent(self, made: Leased) -> Leased | None:
        with self._mutex:
            if not self._closed:
                self._used.add(made)
                return made
        # It was closed meanwhile, and ended only what it knew of.
        self._end(made)
        return None

    def _nbytes(self) -> int:
        return sum([each.nbytes for each in (*self._free, *self._used, *self._retired)])

    def _make(self, size: int) -> Leased | None:
        name = f"{self._prefix.lstrip('/')}{os.getpid()}-{secrets.token_hex(12)}"
        path = f"{_FOLDER}/{name}"
        try:
            # One for all threads: another one would live on without an end.
            with self._mutex:
                if self._closed:
                    return None
                if self._guard is None:
                    self._guard = self._make_guard()
                guard = self._guard
            # The guard first, so that there is no moment in which it does not know of it.
            guard.add(name)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self.why = f"no shared memory can be made: {error}"
            return None
        try:
            try:
                # With its pages: one that is not there would be a write that kills.
                os.posix_fallocate(descriptor, 0, size)
                self._ask("region_register", _ASK_S, name=name, key=f"/{name}", offset=0, byte_size=size)
            finally:
                # The server has it open; by its name none else needs it.
                with suppress(FileNotFoundError):
                    os.unlink(path)
        except (OSError, KserveError) as error:
            os.close(descriptor)
            if isinstance(error, KserveError) and error.code in _NO_ANSWER:
                self._doubt(name, size)
                return None
            guard.remove(name)
            if isinstance(error, KserveError):
                self.why = f"the server takes no shared memory of clients: {error}"
            return None
        return Leased(self, name, descriptor, size)

    def _doubt(self, name: str, size: int) -> None:
        """A region that the server may have opened, although its answer was lost: it is told to let go, later, when it
        answers again, or by the guard."""
        with self._mutex:
            if not self._closed:
                doubtful = Leased(self, name, -1, size)
                doubtful.retired_at = time.monotonic()
                self._retired.append(doubtful)

    def give_back(self, region: Leased) -> None:
        """See `Leased.give_back`."""
        with self._mutex:
            if region in self._used:
                self._used.remove(region)
                if self._closed:
                    self._end(region)
                else:
                    self._free.append(region)

    def retire(self, region: Leased) -> None:
        """See `Leased.retire`."""
        with self._mutex:
            if region in self._used:
                self._used.remove(region)
                region.retired_at = time.monotonic()
                self._retired.append(region)

    def forget(self) -> None:
        """The server was lost, and has forgotten them if it was started again."""
        with self._mutex:
            for each in self._free:
                each.retired_at = time.monotonic()
            self._retired += self._free
            self._free = []

    def _end_retired(self) -> None:
        while self._retired and time.monotonic() >= self._retired[0].retired_at + _RETIRED_S:
            self._end(self._retired.pop(0))

    def _end(self, region: Leased) -> bool:
        """Whether the server has let go of it."""
        try:
            self._ask("region_unregister", _ASK_S, name=region.name)
            gone = True
        except KserveError as error:
            gone = error.code not in _NO_ANSWER
        region.close()
        if gone and self._guard is not None:
            self._guard.remove(region.name)
        return gone

    def close(self) -> None:
        """End all of them. What the server does not let go of now, the guard asks for again."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            regions = [*self._free, *self._used, *self._retired]
            self._free, self._used, self._retired = [], set(), []
        there = True
        for each in regions:
            if there:
                there = self._end(each)
            else:
                each.close()
        if self._guard is not None:
            self._guard.close()


def aligned(sizes: list[int]) -> tuple[list[int], int]:
    """Where tensors of these sizes lie in a region, and the bytes of all of them."""
    offsets, at = [], 0
    for size in sizes:
        offsets.append(at)
        at += round_up(size)
    return offsets, at
