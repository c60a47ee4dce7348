"""What the tests of asyncio's clients share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.client.aio import AsyncClient

__all__ = ["Run", "bytes_of", "quiet"]

Run = Callable[[Awaitable[Any]], Any]
"""Runs a coroutine in a loop: the fixture `run`."""


def bytes_of(number: int) -> bytes:
    return b"%08d" % number


async def quiet(client: AsyncClient) -> dict[str, Any]:
    """The status, once nothing of this client's is left in the pipeline: no request, and no slot but the one that an
    idle client may keep in hand."""
    while True:
        status = await client.status()
        # Those of tests before may be leaving.
        me, *before = [each for each in status["clients"] if each["name"] == "me"]
        ingress, *others = status["pools"]
        if not before and not me["requests"] and not me["borrowed"] and me["granted"] <= 1 and (
            ingress["free"] >= ingress["slots"] - 1 and all(pool["free"] == pool["slots"] for pool in others)
        ):
            return status
        await asyncio.sleep(0.01)
