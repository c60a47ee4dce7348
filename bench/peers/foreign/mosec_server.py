"""mosec, with the service of `bench.versus`: three workers, with tensors between them in Plasma's shared memory.

Runs in this project's environment; the server has its own.
"""

from __future__ import annotations

from pathlib import Path

from bench.peers.foreign.http_exchange import HttpExchange
from bench.peers.foreign.talk import serve
from bench.versus.mosec import Mosec

__all__ = ["MosecServer"]


class MosecServer(HttpExchange):
    """See above."""

    path = "/inference"
    _mosec: Mosec | None = None

    def serve(self) -> int:
        self._mosec = Mosec(Path("mosec.log").absolute())
        return int(self._mosec.http.rpartition(":")[2])

    def close(self) -> None:
        super().close()
        if self._mosec is not None:
            self._mosec.close()


if __name__ == "__main__":
    serve(MosecServer())
