"""The example's app, and what a test wants to know of the process that it runs in. uvicorn imports it."""

from __future__ import annotations

import asyncio
import os

from examples.fastapi_app import app

__all__ = ["app"]


@app.get("/probe")
async def probe() -> dict[str, int]:
    digits = app.state.digits
    return {
        # Without the one of this request.
        "tasks": len(asyncio.all_tasks()) - 1,
        "requests": digits._client.outstanding,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
