"""The command `pipeline`. One file a command; each adds itself in `register`.

Exit codes: 0 done, 1 some requests failed, 2 the config or the command line is wrong, 3 it could not
be started.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from pipeline.cli import build, check, graph, models, replay, run, schema, shm, status
from pipeline.errors import ConfigError, StartError

__all__ = ["app", "main"]

EXIT_CONFIG = 2
EXIT_START = 3

app = typer.Typer(
    name="pipeline",
    help="One YAML file, a running inference pipeline of several processes.",
    add_completion=False,
    no_args_is_help=True,
    # An exception that reaches the top is a bug of ours; it is reported as Python does.
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trtlab {metadata.version('trtlab')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _command in (run, check, graph, build, status, shm, replay, models, schema):
    _command.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, the process's own where none is given, and end with SystemExit."""
    try:
        app(args=arguments, prog_name="pipeline")
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except StartError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_START)
