"""Talk: a driver's side of `bench.peers.session`: it reads orders from stdin and answers on what was stdout."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from typing import IO, Any

__all__ = ["serve"]


def serve(subject: Any, orders: IO[str] = sys.stdin, answers: IO[str] | None = None) -> None:
    """Carry out orders until there are no more, then close the subject, and end this process.

    Args:
        subject: with `setup(nbytes, window)`, `latency(seconds)`, `throughput(seconds, window)` and `close()`, as
            `bench.measure.Subject` describes them.
        orders, answers: where they come from and go to, if not stdin and stdout.
    """
    answers = answers or os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints goes where the log is
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        for line in orders:
            answers.write(json.dumps(_answer(subject, json.loads(line))) + "\n")
            answers.flush()
    finally:
        subject.close()


def _answer(subject: Any, order: dict[str, Any]) -> dict[str, Any]:
    do = order.pop("do")
    try:
        if do == "setup":
            subject.setup(**order)
            return {"answer": None}
        if do == "latency":
            return {"answer": subject.latency(**order)}
        flow = subject.throughput(**order)
        return {"answer": [flow[0], flow[1]]}
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return {"error": text, "torn": type(error).__name__ == "TornTensor"}
