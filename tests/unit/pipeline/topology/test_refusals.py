"""What the system refuses, in one line that says what to change."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from pipeline.topology.refusals import is_refusal, refusal_of


def limit(which: int) -> tuple[int, int]:
    return {resource.RLIMIT_NOFILE: (20, 99), resource.RLIMIT_NPROC: (4, 99)}[which]


def unlimited(which: int) -> tuple[int, int]:
    return resource.RLIM_INFINITY, resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, "raise the limit of open files (ulimit -n is 20)"),
        (errno.EAGAIN, "raise the limit of processes and threads of this user (ulimit -u is 4)"),
        (errno.ENOSPC, "its disk, or /dev/shm, is full"),
        (errno.EROFS, "it must be a folder that can be written"),
        (errno.EACCES, "this user may not; see its owner and mode"),
    ],
)
def test_a_refusal_names_what_was_refused_and_what_to_change(number: int, said: str) -> None:
    error = OSError(number, os.strerror(number), "/some/where")
    assert is_refusal(error)
    text = refusal_of(error, limit)
    assert text.startswith(f"{os.strerror(number)}: /some/where; ")
    assert said in text
    assert "\n" not in text


def test_a_limit_that_is_none_is_not_shown_as_a_number() -> None:
    assert "ulimit" not in refusal_of(OSError(errno.EAGAIN, "Resource temporarily unavailable"), unlimited)


def test_a_file_that_is_not_there_is_no_refusal() -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), "x")
    assert not is_refusal(error)
    assert refusal_of(error, limit) == f"{os.strerror(errno.ENOENT)}: x"
