"""`pipeline events`: what happens at the cameras of a run, as it happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.client.status import ask_status
from pipeline.errors import ConfigError, Unavailable
from pipeline.streams import say
from pipeline.video.event_log import event_log_of
from pipeline.watching.events import line_of
from pipeline.watching.tail import Tail
from pipeline.wire.run_dir import LOCK, find_run, has_ended, serving
from pipeline.wire.shards import one_run
from shm.owner import Alive, probe

__all__ = ["register"]

_FAILED = 1
_LOOK_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(events)


def events(
    run: Annotated[
        str | None,
        typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder; default: the only one."),
    ] = None,
    camera: Annotated[
        list[str], typer.Option("--camera", metavar="NAME", help="Of these cameras; default: of all.")
    ] = [],  # noqa: B006 (typer's own form of a default)
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="Begin with the last N.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Show those that were, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each as a line of JSON, updates of those that go on too.")
    ] = False,
) -> None:
    """Show what happens at the cameras of a run, until the run has ended, or Ctrl-C. The last 256 KiB or more of each
    camera are kept while the run lives. After a reload it goes on with the new version.

    Exit code 1: the run is not there.
    """
    try:
        folder = one_run(find_run(run))
        while True:
            _show(folder, camera, lines, once=once, as_json=as_json)
            if once or serving(folder) == folder:
                return
            folder, lines = serving(folder), 1 << 30
    except (Unavailable, OSError) as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _show(folder: Path, wanted: list[str], lines: int, *, once: bool, as_json: bool) -> None:
    """Print the events of one run, until it has ended or was replaced."""
    names = [camera.name for camera in ask_status(folder).cameras]
    if not names:
        raise ConfigError(f"{folder.name} has no cameras")
    for name in wanted:
        if name not in names:
            raise ConfigError(f"--camera: {folder.name} has no camera {name}: its cameras are {', '.join(names)}")
    names = [name for name in names if name in wanted or not wanted]
    width = max(map(len, names))
    with ExitStack() as stack:
        tails = [stack.enter_context(closing(Tail(event_log_of(folder, name)))) for name in names]
        shown = [text for event in _earlier(tails) if (text := _text(event, width, as_json=as_json)) is not None]
        _print(shown[len(shown) - lines if lines < len(shown) else 0 :])
        while not once:
            # Asked first: what is told at the end is read after it.
            over = not isinstance(probe(folder / LOCK), Alive) or has_ended(folder) or serving(folder) != folder
            found = sorted((event for tail in tails for event in _read(tail.read())), key=_when)
            _print([text for event in found if (text := _text(event, width, as_json=as_json)) is not None])
            if over:
                return
            time.sleep(_LOOK_S)


def _earlier(tails: list[Tail]) -> list[dict[str, Any]]:
    return sorted((event for tail in tails for event in _read([*tail.earlier(), *tail.read()])), key=_when)


def _read(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        # One that a source was killed in the middle of.
        with suppress(ValueError):
            yield json.loads(line)


def _when(event: dict[str, Any]) -> float:
    return float(event["time"])


def _text(event: dict[str, Any], width: int, *, as_json: bool) -> str | None:
    return json.dumps(event) if as_json else line_of(event, width)


def _print(lines: list[str]) -> None:
    for line in lines:
        print(line)
    if lines:
        sys.stdout.flush()
