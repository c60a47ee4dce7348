"""`python -m bench.run`: the pipeline's relay beside its floors: the same tensors over the same transport, without it.

README.md says what is measured and how to read it.
"""

from __future__ import annotations

import sys

from bench.benchmark import Benchmark
from bench.floors.eventfd_ring import EventfdRing
from bench.floors.zmq_ring import ZmqRing
from bench.relay import PipelineRelay

__all__ = ["RELAYS"]

RELAYS = Benchmark(
    module="bench.run",
    description="A relay of tensors beside its floors.",
    subjects={
        "pipeline": PipelineRelay,
        "pipeline-ring": lambda: PipelineRelay(link="ring"),
        "colocated": lambda: PipelineRelay(colocate=True),
        "colocated-ring": lambda: PipelineRelay(colocate=True, link="ring"),
        "zmq-2": lambda: ZmqRing(2),
        "zmq-3": lambda: ZmqRing(3),
        "zmq-5": lambda: ZmqRing(5),
        "eventfd-2": lambda: EventfdRing(2),
        "eventfd-3": lambda: EventfdRing(3),
    },
    # 4 KiB; a float32 image of 224x224; full HD and 4K UHD in uint8 RGB.
    sizes=(4096, 602_112, 6_220_800, 24_883_200),
    windows=(16, 64),
    reference="zmq-2",
)

if __name__ == "__main__":
    sys.exit(RELAYS.main())
