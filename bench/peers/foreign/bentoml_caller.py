"""BentoML over HTTP, three services behind each other: python -m bench.peers.foreign.bentoml_caller"""

from __future__ import annotations

import os

from bench.peers.foreign.http_exchange import HttpExchange, free_port
from bench.peers.foreign.talk import serve

__all__ = ["BentoML"]


class BentoML(HttpExchange):
    """See above."""

    path = "/relay"

    def serve(self) -> int:
        port = free_port()
        self.spawn(
            "-m", "bentoml", "serve", "bench.peers.foreign.bentoml_services:First", "--host", "127.0.0.1",
            "--port", port, "--working-dir", os.environ["PYTHONPATH"],
            # It tells its makers of each start otherwise, and keeps what it makes in the home folder.
            BENTOML_DO_NOT_TRACK="True", BENTOML_HOME=os.path.abspath("bentoml"),
        )  # fmt: skip
        return port


if __name__ == "__main__":
    serve(BentoML())
