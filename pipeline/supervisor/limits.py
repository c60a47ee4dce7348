"""Limits: what the system lets the processes of a run have."""

from __future__ import annotations

import resource
from contextlib import suppress

__all__ = ["raise_file_limit"]

#: Programs that a stage starts may close every number up to the limit one by one, so it is not the largest there is.
_MOST_FILES = 65_536


def raise_file_limit() -> None:
    """Raise the limit of descriptors as far as allowed: each client takes four of the scheduler's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
