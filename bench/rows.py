"""Rows: what a row costs in a request of several rows, beside the same rows in requests of one.

Two runs of one config, `ingress.rows=1` and `ingress.rows=N`, take turns: a block of batches each, so that whatever
else the machine does hits both. Counted are the rows a second and the CPU time of everything that has a part in it: the
client's process, the run's, and the gateway's if requests go through one.

    python -m bench.rows [--rows 8] [--rounds 12] [--batches 150] [--in-flight 4] [--gateway] [CONFIG]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.remote.models import RemoteInferenceManager
from pipeline.testing import running

__all__ = ["main"]

ROOT = Path(__file__).parents[1]

Send = Callable[[Any], Any]

_WHERE = re.compile(r"http://[^ ,]+")


@contextmanager
def opened(config: Path, rows: int, gateway: bool) -> Iterator[tuple[Send, list[int]]]:
    """What sends a batch and returns a future, and the processes that have a part in it beside this one."""
    with ExitStack() as stack:
        name = f"rows{rows}"
        overrides = [f"name={name}", f"ingress.rows={rows}", "serve.batched=true", "serve.max_batch_size=64"]
        pipeline = stack.enter_context(running(config, overrides))
        roots = [pipeline.pid]
        runner: Any
        if gateway:
            url, pid = stack.enter_context(_served(name))
            roots.append(pid)
            server = stack.enter_context(RemoteInferenceManager(url))
            runner = server.infer_runner(name)
        else:
            runner = InferRunner(stack.enter_context(SharedClient.connect(pipeline.run_dir)))
        (spec,) = runner.input_specs()
        yield (lambda batch: runner.infer({spec: batch})), roots


@contextmanager
def _served(name: str) -> Iterator[tuple[str, int]]:
    """A gateway of the pipeline of that name: its URL and its pid."""
    command = [sys.executable, "-m", "pipeline", "serve", name]
    ports = [text for kind in ("http", "grpc", "metrics") for text in (f"--{kind}-port", "0")]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = _WHERE.search(line := process.stdout.readline())
            assert found is not None, line
            yield found[0], process.pid
        finally:
            process.terminate()


def cpu_s(roots: list[int]) -> float:
    """CPU seconds of these processes, their children, and this one, so far."""
    everything = [psutil.Process()]
    for root in roots:
        everything += [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    return sum(times.user + times.system for times in (process.cpu_times() for process in everything))


def block(send: Send, roots: list[int], batch: Any, batches: int, in_flight: int) -> tuple[float, float]:
    """Rows a second, and CPU microseconds a row."""
    before, began = cpu_s(roots), time.perf_counter()
    under_way: deque[Any] = deque()
    for _ in range(batches):
        if len(under_way) == in_flight:
            _take(under_way.popleft())
        under_way.append(send(batch))
    while under_way:
        _take(under_way.popleft())
    took, rows = time.perf_counter() - began, batches * len(batch)
    return rows / took, (cpu_s(roots) - before) * 1e6 / rows


def _take(future: Any) -> None:
    found = future.result()
    if hasattr(found, "release"):
        found.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "configs/mnist.yaml")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--gateway", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        ways = [stack.enter_context(opened(options.config, rows, options.gateway)) for rows in (1, options.rows)]
        with SharedClient.connect(f"rows{options.rows}") as client:
            (spec,) = client.interface.specs.values()
        batch = (np.random.default_rng(0).random((options.rows, *spec.max_shape)) * 100).astype(spec.dtype)
        found: list[list[tuple[float, float]]] = [[], []]
        for number in range(options.rounds + 1):
            for way in (0, 1) if number % 2 else (1, 0):
                measured = block(*ways[way], batch, options.batches, options.in_flight)
                # The first round warms up.
                if number:
                    found[way].append(measured)
    print(f"load {psutil.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.batches} batches of {options.rows}")
    for column, unit in enumerate(("rows/s", "CPU us a row")):
        one, several = ([each[column] for each in way] for way in found)
        ratios = sorted(b / a for a, b in zip(one, several))
        print(
            f"{unit:>12}: {statistics.median(one):9.1f} one by one, {statistics.median(several):9.1f} together, ratio "
            f"{statistics.median(ratios):.2f} ({ratios[len(ratios) // 4]:.2f} to {ratios[3 * len(ratios) // 4]:.2f})"
        )


if __name__ == "__main__":
    main()
