"""Triton, with the ensemble of `bench.versus`: gRPC, the input in shared memory that each caller has registered.

Runs in this project's environment; the server has its own.
"""

from __future__ import annotations

from bench.peers.foreign.talk import serve
from bench.versus.subjects import Crowd, over_regions, triton

if __name__ == "__main__":
    serve(Crowd("triton", triton, over_regions))
