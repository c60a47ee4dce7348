"""`pipeline resume`: switch cameras of a run on again that `pipeline pause` has switched off."""

from __future__ import annotations

import typer

from pipeline.cli.pause import CamerasArgument, RunArgument, switch

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(resume)


def resume(run: RunArgument, cameras: CamerasArgument = []) -> None:  # noqa: B006 (typer's own form of a default)
    """Switch cameras on again that `pipeline pause` has switched off.

    Exit code 1: the run is not there, or a source has not gone on yet.
    """
    switch(run, cameras, on=False)
