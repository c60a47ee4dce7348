"""Shards: requests a second through 1, 2 and 4 schedulers by turns, and what each request costs a scheduler's thread.

    python -m bench.shards            # about a minute; with fewer than 16 cores, shards take them from each other
    python -m bench.shards --shards 1,2 --seconds 2 --clients 4

Each turn is `pipeline run --serve` with `shards: N` and one stage that touches nothing, of 4 replicas in all, and
client processes which keep a number of small requests under way each. A scheduler's CPU time is that of its main
thread; those of ZeroMQ beside it are shown apart. Compare only what one run of this prints.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from bench.machine import describe_machine
from bench.titles import in_role
from pipeline.client.client import Client
from pipeline.client.future import Future
from pipeline.testing.running import RunningPipeline, running

__all__ = ["Turn", "main", "turn"]

_REPLICAS = 4
_START_S = 60.0
_WARM_UP_S = 0.5
"""From the moment at which all clients send to the measured time."""

_CONFIG = """\
name: shards
inputs:
  - {{name: tensor, dtype: uint8, shape: [{nbytes}]}}
shards: {shards}
ingress: {{slots: {slots}}}
stages:
  - name: relay
    use: stages.relay:Relay
    with: {{shape: [{nbytes}]}}
    replicas: {replicas}
    batch: {{max_size: {batch}}}
    credits: {credits}
"""


class Turn(NamedTuple):
    """What was measured with one number of shards."""

    shards: int
    rate: float
    """Requests a second, of all clients together."""
    scheduler_us: float
    """CPU time of the schedulers' main threads for each request."""
    io_us: float
    """CPU time of their other threads for each request."""
    busy: tuple[float, ...]
    """Of each scheduler's main thread: CPU seconds in a second."""
    spread: tuple[int, ...]
    """How many clients are in each shard."""


def turn(shards: int, clients: int, *, nbytes: int, batch: int, window: int, seconds: float) -> Turn:
    """Start a pipeline, load it with client processes, and measure."""
    each = -(-clients // shards)
    text = _CONFIG.format(
        nbytes=nbytes, shards=shards, replicas=max(_REPLICAS, shards), batch=batch, credits=4 * batch,
        slots=each * window * 4 // 3 + 8,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="trtlab-bench-") as folder:
        config = Path(folder) / "shards.yaml"
        config.write_text(text)
        with running(config, timeout_s=_START_S) as pipeline:
            return _measured(pipeline, shards, clients, nbytes, window, seconds)


def _measured(
    pipeline: RunningPipeline, shards: int, clients: int, nbytes: int, window: int, seconds: float
) -> Turn:
    command = [
        sys.executable, "-m", "bench.shards", "--client", str(pipeline.run_dir), "--nbytes", str(nbytes), "--window",
        str(window), "--seconds", str(seconds),
    ]  # fmt: skip
    callers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(clients)
    ]
    try:
        schedulers = _schedulers(pipeline.pid)
        for caller in callers:
            assert caller.stdout is not None
            caller.stdout.readline()
        start = time.monotonic() + _WARM_UP_S
        for caller in callers:
            print(start, file=caller.stdin, flush=True)
        time.sleep(max(0.0, start - time.monotonic()))
        before = [_threads_of(process) for process in schedulers]
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        after = [_threads_of(process) for process in schedulers]
        told = [json.loads(caller.communicate(timeout=_START_S)[0]) for caller in callers]
    finally:
        for caller in callers:
            caller.kill()
    answered = sum(found["answered"] for found in told)
    names = [found["shard"] for found in told]
    main = [late[0] - early[0] for early, late in zip(before, after)]
    io = sum(late[1] - early[1] for early, late in zip(before, after))
    return Turn(
        shards, answered / seconds, 1e6 * sum(main) / answered, 1e6 * io / answered,
        tuple(used / seconds for used in main), tuple(names.count(name) for name in sorted(set(names))),
    )  # fmt: skip


def _schedulers(supervisor: int) -> list[psutil.Process]:
    return in_role(supervisor, "scheduler", recursive=True)


def _threads_of(process: psutil.Process) -> tuple[float, float]:
    """CPU seconds of the main thread, and of all others, to the clock's tick of 10 ms."""
    used = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
    return used.pop(process.pid), sum(used.values())


def _call(run_dir: str, nbytes: int, window: int, seconds: float) -> None:
    """A client process: it says that it is there, reads when the measured time begins, and says what was answered."""
    tensor = np.zeros(nbytes, np.uint8)
    waiting: deque[Future] = deque()
    answered = 0
    with Client.connect(run_dir, name="bench", timeout_s=_START_S) as client:
        connection = client._exchange.access.connection
        shard = "" if connection is None else connection.run_dir.name
        client.submit(tensor=tensor).get(_START_S).release()
        print("ready", flush=True)
        start = float(sys.stdin.readline())
        while time.monotonic() < start + seconds:
            while len(waiting) < window:
                waiting.append(client.submit(tensor=tensor))
            # Half of them: requests go, and come, in messages of many.
            for _ in range(window // 2):
                with waiting.popleft().get(60):
                    pass
                answered += start <= time.monotonic() < start + seconds
        for future in waiting:
            future.get(60).release()
    print(json.dumps({"answered": answered, "shard": shard}))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="1,2,4", metavar="N,N")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--nbytes", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--window", type=int, default=64, help="requests under way, of each client")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.client:
        _call(given.client, given.nbytes, given.window, given.seconds)
        return
    numbers = [int(number) for number in given.shards.split(",")]
    found: list[Turn] = []
    for _ in range(given.rounds):
        for shards in numbers:
            one = turn(
                shards, given.clients, nbytes=given.nbytes, batch=given.batch, window=given.window,
                seconds=given.seconds,
            )  # fmt: skip
            found.append(one)
            busy = ", ".join(f"{share:.0%}" for share in one.busy)
            print(
                f"shards {shards}: {one.rate:8.0f} requests/s; a request {one.scheduler_us:5.1f} us of the schedulers' "
                f"main threads, {one.io_us:5.1f} us of their others; busy {busy}; clients {one.spread}",
                flush=True,
            )
    base = statistics.median(each.rate for each in found if each.shards == numbers[0])
    for shards in numbers:
        rate = statistics.median(each.rate for each in found if each.shards == shards)
        print(f"shards {shards}: median {rate:.0f} requests/s, {rate / base:.2f} of {numbers[0]}")
    if given.json is not None:
        document = {"machine": describe_machine(), "turns": [each._asdict() for each in found], "with": vars(given)}
        given.json.write_text(json.dumps(document, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
