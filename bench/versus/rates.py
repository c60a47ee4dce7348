"""`python -m bench.versus.rates`: requests/s, latency and CPU of the gateway, Triton, mosec and an empty handler.

README.md of `bench` says what is measured and how to read it.
"""

from __future__ import annotations

import sys

from bench.benchmark import Benchmark
from bench.versus.subjects import SUBJECTS

__all__ = ["RATES"]

RATES = Benchmark(
    module="bench.versus.rates",
    description="The gateway beside Triton, mosec and an empty handler of gRPC.",
    subjects=SUBJECTS,
    # A float32 image of 224x224.
    sizes=(602_112,),
    windows=dict.fromkeys(SUBJECTS, (1, 16)),
    reference="triton-grpc-shm",
)

if __name__ == "__main__":
    sys.exit(RATES.main())
