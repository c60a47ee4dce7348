"""Sealed memory: what is given cannot be made smaller, and what is taken is looked at first."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable

import pytest

from shm import sealed
from shm.errors import NoRoom, SegmentCorrupt

SIZE = 4096


def test_both_ends_see_the_same_bytes_and_neither_can_make_them_fewer() -> None:
    fd = sealed.create("test", SIZE)
    one, other = sealed.map_sealed(fd, SIZE), sealed.map_received(fd, SIZE)
    one[7] = 42
    assert other[7] == 42
    assert len(other) == SIZE
    for size in (0, 2 * SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(fd)


def unsealed() -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    return fd


def grows() -> int:
    fd = unsealed()
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


def a_file() -> int:
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        return os.dup(file.fileno())


def a_pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


@pytest.mark.parametrize("make", [unsealed, grows, a_file, a_pipe, lambda: sealed.create("test", SIZE + 1)])
def test_what_could_become_smaller_or_is_of_another_size_is_refused(make: Callable[[], int]) -> None:
    fd = make()
    try:
        with pytest.raises(SegmentCorrupt, match=r"sealed memory|cannot become fewer"):
            sealed.map_received(fd, SIZE)
    finally:
        os.close(fd)


def test_too_little_memory_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NoRoom, match=r"4096 bytes of memory for test cannot be made.*there is no memory"):
        sealed.create("test", SIZE)
    assert len(os.listdir("/proc/self/fd")) == before
