from __future__ import annotations

import pytest

from shm.segments.sysv import refusal

LIMITS = {"shmmax": 1 << 20, "shmall_pages": 100, "used_pages": 10, "available": 90 * 4096}


@pytest.mark.parametrize(
    ("wanted", "changes", "why"),
    [
        (90 * 4096, {}, None),
        (90 * 4096 + 1, {}, "kernel.shmall allows 100 pages of 4096 B, 10 are taken"),
        ((1 << 20) + 1, {}, "kernel.shmmax allows 1048576 B"),
        (4096, {"used_pages": 100}, "kernel.shmall"),
        (4096, {"available": 4095}, "only 4095 B of memory are available"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_limit_that_it_exceeds(
    wanted: int, changes: dict[str, int], why: str | None
) -> None:
    found = refusal(wanted, **{**LIMITS, **changes})
    assert found == why or (why is not None and found is not None and why in found)
