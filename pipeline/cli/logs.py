"""`pipeline logs`: what a run has printed to stderr, also after its end."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.errors import Unavailable
from pipeline.streams import say
from pipeline.supervisor.run_log import log_path, logged_runs
from pipeline.watching.tail import Tail
from pipeline.wire.home import logs_home, named_folder, runs_home
from pipeline.wire.run_dir import LOCK, find_run, runs
from shm.owner import Alive, probe

__all__ = ["register", "run_with_log"]

_FAILED = 1
_LOOK_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(logs)


def logs(
    run: Annotated[
        str | None,
        typer.Argument(help="A pipeline's name, or a run's id (detect-29227) or folder; default: the only one."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended, or Ctrl-C.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", min=0, metavar="N", help="Begin with the last N; default: all that are kept.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the log of a run: each line with the time at which its supervisor had it, in UTC.

    Of a pipeline's runs it is the one that serves; if none runs, the one that ended last. Exit code 1: there is no log.
    """
    try:
        folder = run_with_log(run)
        path = log_path(folder.name)
        if path is None or not path.exists():
            raise Unavailable(f"{folder.name} has no log here (looked in {logs_home() or 'no home folder'})")
    except Unavailable as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
    newest = deque[str](maxlen=lines)
    try:
        with closing(Tail(path)) as tail:
            newest.extend(tail.earlier())
            newest.extend(tail.read())
            for line in newest:
                print(line)
            while follow:
                sys.stdout.flush()
                # Asked first: what a run says at its end is read after it has ended.
                alive = isinstance(probe(folder / LOCK), Alive)
                for line in tail.read():
                    print(line)
                if not alive:
                    break
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def run_with_log(named: str | None) -> Path:
    """The folder of the run whose log is meant; it is gone if the run has ended.

    Raises:
        Unavailable: there is none.
    """
    if named is not None:
        if (folder := named_folder(named)) is not None:
            return folder
        path = log_path(named)
        if path is not None and path.exists():
            return runs_home() / named
        if not runs(named) and (ended := logged_runs(named)):
            return runs_home() / ended[0]
    return find_run(named)
