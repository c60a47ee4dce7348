"""The service of LitServe: three calls in its worker. python -m bench.peers.foreign.litserve_service PORT"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

from bench.peers.foreign.exchange import stamp_of

# No deferred annotations of the methods' own names: FastAPI reads them where they stand.
Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class Relay(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self._stages = [lambda tensor: tensor, lambda tensor: tensor, stamp_of]

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request

    def predict(self, tensor: Any) -> Any:
        for stage in self._stages:
            tensor = stage(tensor)
        return tensor

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return Response(output, media_type="application/octet-stream")


Relay.decode_request.__annotations__["request"] = Raw
Relay.encode_response.__annotations__["return"] = Response

if __name__ == "__main__":
    server = litserve.LitServer(Relay(), accelerator="cpu", fast_queue=True, track_requests=False, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, generate_client_file=False)
