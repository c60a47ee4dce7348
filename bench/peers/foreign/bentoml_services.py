"""The services of BentoML: the first is asked over HTTP and asks the next, as BentoML composes them (`depends`).

Each has a process of its own. Between them arrays go pickled, out of band, over a Unix socket, in batches that the two
behind gather (`batchable`). The first takes a tensor as a body of bytes, so it has a route of its own: BentoML's own
inputs are JSON, or files on disk.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import aiohttp
import bentoml
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["First", "Second", "Third"]

_STAMP = 8
_TRIES = 3
_BATCHED: dict[str, Any] = {"batchable": True, "max_batch_size": 64}
_SERVICE: dict[str, Any] = {
    "workers": 1, "traffic": {"timeout": 60, "max_concurrency": 128}, "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
}  # fmt: skip


async def _asked(service: Any, tensors: np.ndarray) -> Any:
    """What a service answers. Under load its process closes connections at times, and BentoML leaves it to the caller
    to send the request again; bench/NOTES.md has how often."""
    for _ in range(_TRIES):
        with suppress(aiohttp.ClientConnectionError):
            return await service(tensors)
    return await service(tensors)


@bentoml.service(**_SERVICE)
class Third:
    """Answers with the stamps of each row."""

    @bentoml.api(**_BATCHED)  # type: ignore[untyped-decorator]
    def ends(self, tensors: np.ndarray) -> np.ndarray:
        return np.concatenate([tensors[:, :_STAMP], tensors[:, -_STAMP:]], axis=1)


@bentoml.service(**_SERVICE)
class Second:
    """Passes batches on."""

    after = bentoml.depends(Third)

    @bentoml.api(**_BATCHED)  # type: ignore[untyped-decorator]
    async def pass_on(self, tensors: np.ndarray) -> np.ndarray:
        stamps: np.ndarray = await _asked(self.after.to_async.ends, tensors)
        return stamps


async def _relay(request: Request) -> Response:
    tensor = np.frombuffer(await request.body(), np.uint8)
    stamps = await _asked(bentoml.get_current_service().after.to_async.pass_on, tensor[None])
    return Response(stamps.tobytes(), media_type="application/octet-stream")


@bentoml.service(**_SERVICE)
@bentoml.asgi_app(Starlette(routes=[Route("/relay", _relay, methods=["POST"])]))
class First:
    """Is asked over HTTP."""

    after = bentoml.depends(Second)
