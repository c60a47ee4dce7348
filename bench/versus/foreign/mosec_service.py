"""The relay as a service of mosec, in build/mosec: three workers, with tensors between them in shared memory.

    python mosec_service.py --address 127.0.0.1 --port PORT ...     mosec's own options
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mosec import Server, Worker
from mosec.mixin import PlasmaShmIPCMixin
from pyarrow import plasma

#: For 16 tensors of 24 MB between each two stages.
_STORE_BYTES = 1 << 30


class A(PlasmaShmIPCMixin, Worker):  # type: ignore[misc]
    def deserialize(self, data: bytes) -> Any:
        return np.frombuffer(data, np.uint8)

    def forward(self, data: Any) -> Any:
        return data


class B(PlasmaShmIPCMixin, Worker):  # type: ignore[misc]
    def forward(self, data: Any) -> Any:
        return data


class C(PlasmaShmIPCMixin, Worker):  # type: ignore[misc]
    def forward(self, data: Any) -> Any:
        return np.concatenate((data[:8], data[-8:]))

    def serialize(self, data: Any) -> bytes:
        return bytes(data)


if __name__ == "__main__":
    with plasma.start_plasma_store(plasma_store_memory=_STORE_BYTES) as (path, store):
        PlasmaShmIPCMixin.set_plasma_path(path)
        server = Server()
        server.register_daemon("plasma_store", store)
        for worker in (A, B, C):
            server.append_worker(worker)
        server.run()
