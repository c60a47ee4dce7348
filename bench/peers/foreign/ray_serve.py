"""Ray Serve: three deployments, the first of which is asked over HTTP and asks the next, as Serve composes them."""

from __future__ import annotations

import os
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_enable_metrics_collection="0")

import ray
from ray import serve as ray_serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.foreign.exchange import stamp_of
from bench.peers.foreign.http_exchange import HttpExchange, free_port
from bench.peers.foreign.talk import serve

__all__ = ["RayServe"]

_OPTIONS: dict[str, Any] = {"max_ongoing_requests": 128, "ray_actor_options": {"num_cpus": 0.1}}


class C:
    async def ends(self, tensor: bytes) -> bytes:
        return stamp_of(tensor)


class B:
    def __init__(self, after: Any) -> None:
        self._after = after

    async def pass_on(self, tensor: bytes) -> bytes:
        return bytes(await self._after.ends.remote(tensor))


class A:
    def __init__(self, after: Any) -> None:
        self._after = after

    async def __call__(self, request: Request) -> Response:
        return Response(await self._after.pass_on.remote(await request.body()), media_type="application/octet-stream")


class RayServe(HttpExchange):
    """See above."""

    def serve(self) -> int:
        port = free_port()
        ray.init(
            num_cpus=2, object_store_memory=1 << 30, include_dashboard=False, _node_ip_address="127.0.0.1",
            logging_level="error", log_to_driver=False, _temp_dir=os.path.abspath("ray"),
        )  # fmt: skip
        ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
        made: Any = ray_serve.deployment(**_OPTIONS)
        a, b, c = made(A), made(B), made(C)
        ray_serve.run(a.bind(b.bind(c.bind())), name="relay", route_prefix="/")
        return port

    def close(self) -> None:
        super().close()
        ray.shutdown()


if __name__ == "__main__":
    serve(RayServe())
