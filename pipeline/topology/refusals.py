"""What the system has refused, for people: the limit that was reached, and how to raise it."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable

__all__ = ["is_refusal", "refusal_of"]

_LIMITS = {
    errno.EMFILE: ("open files", "ulimit -n", resource.RLIMIT_NOFILE),
    errno.EAGAIN: ("processes and threads of this user", "ulimit -u", resource.RLIMIT_NPROC),
}
_REMEDIES = {
    errno.ENFILE: "this host has too many open files; see fs.file-max",
    errno.ENOMEM: "this host, or its cgroup, has too little memory",
    errno.ENOSPC: "its disk, or /dev/shm, is full",
    errno.EDQUOT: "this user's quota of that disk is used up",
    errno.EROFS: "it must be a folder that can be written",
    errno.EACCES: "this user may not; see its owner and mode",
    errno.EPERM: "this user may not, or the sandbox forbids it",
}


def is_refusal(error: OSError) -> bool:
    """Whether the system has refused something because room or a permission is missing."""
    return error.errno in _LIMITS or error.errno in _REMEDIES


def refusal_of(error: OSError, getrlimit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> str:
    """`error` in one line, with the limit that was reached if it comes from one.

    Args:
        getrlimit: the system call of this name.
    """
    where = "" if error.filename is None else f": {error.filename}"
    text = f"{error.strerror or error}{where}"
    if error.errno in _LIMITS:
        what, command, which = _LIMITS[error.errno]
        limit = getrlimit(which)[0]
        number = "" if limit == resource.RLIM_INFINITY else f" ({command} is {limit})"
        return f"{text}; raise the limit of {what}{number}, or start fewer replicas"
    if error.errno in _REMEDIES:
        return f"{text}; {_REMEDIES[error.errno]}"
    return text
