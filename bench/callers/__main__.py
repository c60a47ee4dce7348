"""The command line; see `bench.callers`."""

from __future__ import annotations

import sys

from bench.benchmark import Benchmark
from bench.callers.blocking import Blocking, Direct, Threads, ThreadsMany
from bench.callers.tasks import Tasks, TasksMany

__all__ = ["CALLERS"]

CALLERS = Benchmark(
    module="bench.callers",
    description="What the ways to call a pipeline cost, beside calls of its stages in one process.",
    subjects={
        "direct": Direct,
        "blocking": Blocking,
        "threads": Threads,
        "threads-many": ThreadsMany,
        "asyncio": Tasks,
        "asyncio-many": TasksMany,
    },
    # 4 KiB; a float32 image of 224x224.
    sizes=(4096, 602_112),
    windows={
        "direct": (1,),
        "blocking": (1,),
        "threads": (1, 4, 16),
        "threads-many": (16, 64),
        "asyncio": (1, 64, 1024),
        "asyncio-many": (16, 64),
    },
    reference="direct",
)

if __name__ == "__main__":
    sys.exit(CALLERS.main())
