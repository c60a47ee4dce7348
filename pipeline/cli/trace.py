"""`pipeline trace`: what a run does with its requests for some seconds, as a file that Perfetto opens."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.printed import expect_place
from pipeline.client.observing import Observer
from pipeline.client.status import ask_status
from pipeline.errors import ConfigError, Unavailable
from pipeline.streams import say
from pipeline.watching.trace_events import trace_of
from pipeline.wire.records import Ended
from pipeline.wire.run_dir import LOCK, find_run
from pipeline.wire.shards import one_run
from pipeline.wire.status import processes_in
from shm.owner import Alive, probe

__all__ = ["register"]

_FAILED = 1
_ASK_S = 0.05


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(trace)


def trace(
    run: Annotated[
        str | None,
        typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder; default: the only one."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=3600.0, metavar="S", help="How long it is watched.")
    ] = 5.0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file.")] = Path("trace.json"),
    most: Annotated[
        int, typer.Option("--most", min=1, metavar="N", help="Requests in the file at most; later ones are counted.")
    ] = 50_000,
) -> None:
    """Watch which requests end, and write the batches and stages that they went through: for https://ui.perfetto.dev.

    A process of the run is a track, a batch a slice, a request a slice with arrows to its batches. Only while this
    command runs the scheduler keeps anything for it. Exit code 1: the run does not answer, or has ended.
    """
    expect_place(output, "--output")
    try:
        folder = one_run(find_run(run))
        before = ask_status(folder)
        kept, lost = _watched(folder, seconds, most)
        after = ask_status(folder)
    except Unavailable as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    about = {"run": folder.name, "requests": len(kept), "missing": lost, "seconds": seconds}
    processes = processes_in(before) | processes_in(after)
    document = trace_of(kept, [stage.name for stage in before.stages], processes, about)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(document))
        partial.replace(output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    missing = f"; {lost} more have ended, which had no room" if lost else ""
    print(f"{output}: {len(kept)} requests of {folder.name}{missing}; open it in https://ui.perfetto.dev")


def _watched(folder: Path, seconds: float, most: int) -> tuple[list[Ended], int]:
    """(the requests that have ended, how many more).

    Raises:
        Unavailable: the run has ended, or refuses.
    """
    kept: list[Ended] = []
    lost = 0
    with Observer(folder) as observer:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            observer.ask()
            found, _ = observer.take(_ASK_S)
            for answer in found:
                room = answer.ended[: most - len(kept)]
                kept += room
                lost += answer.lost + len(answer.ended) - len(room)
            if not isinstance(probe(folder / LOCK), Alive):
                raise Unavailable(f"{folder.name} has ended")
            if not found or not found[-1].ended:
                time.sleep(_ASK_S)
    return kept, lost
