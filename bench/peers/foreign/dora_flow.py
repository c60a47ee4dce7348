"""dora-rs: a caller and three nodes, started by `dora run`, which gives nodes no stdin. So this file is two processes.

    bench.peers.session ──stdin──▶ dora_flow ──pipe "orders"──▶ dora_flow caller (a node) ──▶ a ──▶ b ──▶ c ──▶ caller
                        ◀─stdout──           ◀─pipe "answers"─
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.peers.foreign.exchange import Exchange, stamp_of
from bench.peers.foreign.talk import serve

__all__ = ["DoraFlow", "flow_of"]

_PATIENCE_S = 30.0
_QUEUE = 100

_NODE = """\
  - id: {name}
    path: {python}
    args: -m bench.peers.foreign.{module}
    inputs: {{tensor: {{source: {source}/out, queue_size: {queue}, queue_policy: backpressure}}}}
    outputs: [out]
"""


def flow_of(python: str) -> str:
    """The dataflow, as YAML."""
    rows = (
        ("caller", "dora_flow caller", "c"), ("a", "dora_relay", "caller"), ("b", "dora_relay", "a"),
        ("c", "dora_relay ends", "b"),
    )  # fmt: skip
    return "nodes:\n" + "".join(
        _NODE.format(name=name, python=python, module=module, source=source, queue=_QUEUE)
        for name, module, source in rows
    )


class DoraFlow(Exchange):
    """See above; in the node `caller`."""

    def start(self, nbytes: int, window: int) -> None:
        import pyarrow
        from dora import Node

        self._array = pyarrow.array
        self._node = Node()
        time.sleep(1.0)  # what is sent before the others listen is lost

    def submit(self, number: int, place: Any) -> None:
        self._node.send_output("out", self._array(place), {})

    def collect(self) -> Sequence[bytes]:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            event = self._node.next(timeout=_PATIENCE_S)
            if event is not None and event["type"] == "INPUT":
                return [stamp_of(event["value"].to_numpy(zero_copy_only=True))]
        raise TimeoutError(f"no answer for {_PATIENCE_S:g} s: dora has dropped a tensor")

    def close(self) -> None:
        self._node = None


def _forward() -> None:
    """Start the flow, and carry lines between stdin, stdout and its caller."""
    folder = Path.cwd()
    for name in ("orders", "answers"):
        os.mkfifo(folder / name)
    flow = folder / "flow.yml"
    flow.write_text(flow_of(sys.executable))
    run = subprocess.Popen(["dora", "run", str(flow)], stdin=subprocess.DEVNULL, stdout=2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        # Both ends at once: a pipe that is opened for reading and writing waits for no other end.
        with open(os.open("orders", os.O_RDWR), "w") as orders, open(os.open("answers", os.O_RDWR)) as answers:
            for line in sys.stdin:
                orders.write(line)
                orders.flush()
                sys.stdout.write(answers.readline())
                sys.stdout.flush()
    finally:
        run.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            run.wait(10)
        run.kill()
        run.wait()


if __name__ == "__main__":
    if "caller" in sys.argv:
        serve(DoraFlow(), open("orders"), open("answers", "w"))  # noqa: SIM115
    else:
        _forward()
