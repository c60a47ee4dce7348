"""`pipeline reload`: replace a running pipeline by a new version, without losing a request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import SetOption
from pipeline.cli.interrupts import EXIT_INTERRUPTED
from pipeline.client.reloading import START_S
from pipeline.client.reloading import reload as reload_run
from pipeline.config.document import no_such_file
from pipeline.errors import ConfigError, ReloadFailed, Unavailable
from pipeline.streams import say
from pipeline.wire.messages import Milestone
from pipeline.wire.run_dir import READY, find_run

__all__ = ["register"]

_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(reload)


def reload(
    run: Annotated[str, typer.Argument(help="The pipeline's name, or a run's id or folder.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Argument(help="The new YAML file; default: the same one, read anew.", show_default=False),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Give the new version up if it takes longer.")
    ] = START_S,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="STAGE", show_default=False,
            help="Replace the workers of this stage only, one after the other, in the run that serves.",
        ),
    ] = None,
    assignments: SetOption = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Replace a running pipeline by a new version, without losing a request.

    The new version starts beside the old one. When it is ready, and its canary was answered, it takes over; the old one
    answers what it has, and ends. With --stage the run stays, and its other stages notice nothing: each worker of the
    stage is replaced by one with the code, the `with` and the model as they are now. Exit code 1, and nothing has
    changed: it did not start.
    """
    if config is not None and not config.is_file():
        if not config.exists():
            raise ConfigError(no_such_file(config))
        found = "a directory" if config.is_dir() else "no regular file"
        raise ConfigError(f"{config}: expected a YAML file that another process can read, found {found}")
    try:
        reload_run(run, config, assignments, stage=stage, limit_s=timeout, on_step=_show_worker if stage else _show)
    except (ReloadFailed, Unavailable) as error:
        say(f"error: {error}")
        if isinstance(error, ReloadFailed) and error.outcome != "mixed" and _serves(run):
            say("the version that was there before serves on")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        say("the reload goes on without this command; `pipeline status` shows what becomes of it")
        sys.exit(EXIT_INTERRUPTED)


def _serves(run: str | None) -> bool:
    """Whether the pipeline takes requests: a reload fails, too, if the pipeline is told to stop meanwhile."""
    try:
        return (find_run(run) / READY).exists()
    except Unavailable:
        return False


def _show_worker(step: str, text: str) -> None:
    print(("done: " if step == Milestone.DRAINED else "") + text, flush=True)


def _show(step: str, text: str) -> None:
    shown = {
        Milestone.BEGUN: "starting beside the old version",
        Milestone.STARTED: "started",
        Milestone.READY: "ready",
        Milestone.TOOK_OVER: "took over: new requests go to the new version",
        Milestone.DRAINED: "drained: the old version has answered everything, and has ended",
    }[step]
    print(shown + (f": {text}" if text else ""), flush=True)
