"""What tests of shared clients have in common; their fixtures are in conftest.py."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

from pipeline.client.shared import SharedClient

LARGE = 40_000
"""Bytes of an input whose answer is no small one."""


def data_of(number: int, size: int = 16) -> bytes:
    return number.to_bytes(8, "little") * (size // 8)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """So many threads; the first error of one of them."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        for future in [threads.submit(work, number) for number in range(count)]:
            future.result(200)


def quiet(client: SharedClient) -> None:
    """Wait until nothing of this client's is left in the pipeline, but the slot that an idle client may keep."""
    while True:
        status = client.status()
        (me,) = [each for each in status["clients"] if each["name"] == "me"]
        if not me["requests"] and not me["borrowed"] and me["granted"] <= 1:
            return
        time.sleep(0.01)
