"""Sockets: the files of unix sockets in a run's folder: whose they are, and who may send to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StartError, WireError
from pipeline.wire.address import CLIENT, SCHEDULER, Address
from pipeline.wire.codec import decode
from pipeline.wire.group import group_of
from pipeline.wire.messages import Message
from pipeline.wire.peers import Peers, SchedulersOnly
from pipeline.wire.run_dir import lock_path

__all__ = ["decoded", "made_for_this_user", "path_of", "peers_of", "socket_of", "user_of"]

#: What sun_path of a unix socket holds, without its final NUL.
_MAX_PATH = 107


def path_of(run_dir: Path, address: Address, suffix: str) -> str:
    """The path of a socket of a process.

    Raises:
        StartError: it is longer than a unix socket's path may be.
    """
    path = str(run_dir / f"{address.file}{suffix}")
    if len(os.fsencode(path)) > _MAX_PATH:
        raise StartError(
            f"the socket path {path!r} has {len(os.fsencode(path))} bytes; unix sockets allow {_MAX_PATH}. "
            f"Set TRTLAB_RUN_DIR to a shorter folder"
        )
    return path


@contextmanager
def made_for_this_user(address: Address) -> Iterator[None]:
    """Make files for this user alone, whatever the umask is: a process of the run is reached by no other, not even
    before the permissions of its socket are set.

    The umask is the whole process's, so a client's, whose other threads may make files just now, is left alone: its
    socket lies in a folder that only the group can enter.
    """
    if address.kind == CLIENT:
        yield
        return
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def user_of(run_dir: Path, client: int) -> int | None:
    """The user that holds the lock of a client; None if there is no such file."""
    try:
        return os.stat(lock_path(run_dir, Address.client(client)), follow_symlinks=False).st_uid
    except OSError:
        return None


def peers_of(run_dir: Path, addresses: Iterable[Address]) -> Peers | SchedulersOnly | None:
    """Who may send what to these addresses; None: no other user can connect."""
    if group_of(run_dir) is None:
        return None
    if SCHEDULER in addresses:
        return Peers(os.geteuid(), lambda number: user_of(run_dir, number))
    if any(address.kind == CLIENT for address in addresses):
        return SchedulersOnly(os.stat(run_dir).st_uid)
    return None


def socket_of(run_dir: Path, client: int, suffix: str) -> int:
    """A descriptor of the socket of a client; -1 if there is none, or if it is not of the user that holds its lock.

    In a run with a group, each member can make a link of any name there, to the socket of another client, and change it
    at any time: who connects by the path would send one client's messages to another.
    """
    path = path_of(run_dir, Address.client(client), suffix)
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    found = os.fstat(fd)
    if stat.S_ISSOCK(found.st_mode) and found.st_uid == user_of(run_dir, client):
        return fd
    os.close(fd)
    return -1


def decoded(frame: bytes | memoryview) -> Message | WireError:
    """The message in a frame, or why it is none."""
    try:
        return decode(frame)
    except WireError as error:
        return error
