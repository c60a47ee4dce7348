"""Service: from the start of `pipeline detector` to its end: the run, the client, the socket and the desk."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.client.aio import AsyncClient
from pipeline.detecting.boxes import boxes_of, input_of
from pipeline.detecting.desk import LATE, OK, Desk
from pipeline.detecting.router import Router
from pipeline.metrics.rendering import render_frames
from pipeline.repository.log import Forwarded
from pipeline.repository.run import StartedRun

__all__ = ["Wanted", "serve", "serve_config"]

_LOOK_S = 0.2
#: How often the file of metrics is written.
_METRICS_S = 5.0
_START_S = 600.0


class Wanted(NamedTuple):
    """What the command line says."""

    endpoint: str
    deadline_ms: float
    output: str
    columns: tuple[str, ...]
    pixels: bool
    metrics: Path | None


def serve_config(config: str, name: str, assignments: Sequence[str], wanted: Wanted) -> int:
    """Start a pipeline, and serve it until SIGTERM or SIGINT; the exit code.

    Raises:
        StartError: it did not start, or the address is taken.
        ConfigError: it finds no boxes in pictures.
        Unavailable: it ended at once.
    """
    run = StartedRun(config, assignments, Forwarded(name))
    try:
        folder = run.await_ready(_START_S)
        asyncio.run(serve(str(folder), wanted, lambda: run.alive))
        if not run.alive:
            print(f"error: the pipeline has ended: {run.how}", file=sys.stderr)
            return 1
        return run.stop()
    finally:
        run.end()


async def serve(run: str, wanted: Wanted, lives: Callable[[], bool] = lambda: True) -> None:
    """Serve a pipeline that runs, until SIGTERM or SIGINT, or as long as it `lives`.

    Args:
        run: its name, the id of its run, or that run's folder.
        wanted: what to serve, and where.
        lives: whether to go on; another run of the same name takes over from one that has ended.

    Raises:
        StartError, ConfigError, Unavailable: as `serve_config`.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with await AsyncClient.connect(run, name="detector") as client:
        interface = client.interface
        input, boxes = input_of(interface), boxes_of(interface, wanted.columns, wanted.output, pixels=wanted.pixels)
        router = Router(wanted.endpoint)
        try:
            desk = Desk(router, client, input, boxes, wanted.deadline_ms)
            desk.open()
            print(f"detector {interface.name} on {router.endpoint}", flush=True)
            written_at = 0.0
            while lives() and not stopped.is_set():
                if wanted.metrics is not None and loop.time() >= written_at + _METRICS_S:
                    _write(wanted.metrics, interface.name, desk.outcomes)
                    written_at = loop.time()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stopped.wait(), _LOOK_S)
            await desk.close()
            if wanted.metrics is not None:
                _write(wanted.metrics, interface.name, desk.outcomes)
            print(_summary(desk.outcomes), file=sys.stderr)
        finally:
            router.close()


def _write(path: Path, name: str, outcomes: Counter[str]) -> None:
    """Replace the file of metrics as a whole: no reader finds half of it. A failure is told, and ends nothing."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(render_frames(name, outcomes))
        os.replace(new, path)
    except OSError as error:
        print(f"warning: --metrics {path}: {error.strerror}", file=sys.stderr)


def _summary(outcomes: Counter[str]) -> str:
    """What has become of the frames, in one line."""
    named = sorted((name, count) for name, count in outcomes.items() if count and name not in (OK, LATE))
    others = ", ".join(f"{count} {name}" for name, count in named)
    text = f"{outcomes.total()} frames: {outcomes[OK]} answered, {outcomes[LATE]} late"
    return f"{text}; {others}" if others else text
