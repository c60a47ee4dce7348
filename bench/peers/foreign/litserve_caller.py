"""LitServe over HTTP, with its fast queue (ZeroMQ) between the server and its one worker."""

from __future__ import annotations

from bench.peers.foreign.http_exchange import HttpExchange, free_port
from bench.peers.foreign.talk import serve

__all__ = ["LitServe"]


class LitServe(HttpExchange):
    """See above."""

    path = "/predict"

    def serve(self) -> int:
        port = free_port()
        self.spawn("-m", "bench.peers.foreign.litserve_service", port)
        return port


if __name__ == "__main__":
    serve(LitServe())
