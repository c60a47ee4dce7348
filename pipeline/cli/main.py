"""The command `pipeline`. One file a command; each adds itself in `register`.

Exit codes: 0 done, 1 some requests failed, 2 the config or the command line is wrong, 3 it could not
be started, 130 interrupted while it was still imported.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from pipeline.cli.arguments import EXIT_CONFIG, EXIT_START
from pipeline.cli.interrupts import end_as_usual
from pipeline.errors import ConfigError, StartError
from pipeline.interpreter import NO_MATRICES
from pipeline.streams import prepare_streams, say, silence
from pipeline.supervisor.signals import end_before_start
from pipeline.topology.refusals import is_refusal, refusal_of
from stages.errors import ModelError

__all__ = ["COMMANDS", "main", "make_app"]

EXIT_FAILED = 1

#: Why printed text may be lost: a disk is full. (typer deals with a reader that has gone.)
_UNPRINTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

COMMANDS = (
    "run", "serve", "detector", "check", "init", "graph", "build", "pod", "ps", "status", "top", "logs", "trace",
    "events", "pause", "resume", "reload", "stop", "client", "siege", "bench", "tune", "shm", "replay", "models",
    "schema",
)  # fmt: skip
"""Names of the commands, and of the modules beside this one; in the order of the help."""


def make_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands, whose modules are imported."""
    app = typer.Typer(
        name="pipeline",
        help="One YAML file, a running inference pipeline of several processes.",
        add_completion=False,
        no_args_is_help=True,
        # An exception that reaches the top is a bug of ours; it is reported as Python does.
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name in commands:
        import_module(f"pipeline.cli.{name}").register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # parsers of mail and of archives, which no other command should wait for

        from pipeline.scheduler import scheduler

        compiled = "" if str(scheduler.__file__).endswith(".py") else " (compiled)"
        typer.echo(f"trtlab {metadata.version('trtlab')}{compiled}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, by default the process's own, and end with SystemExit."""
    own_process = arguments is None
    if own_process:
        prepare_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    # Each command needs other libraries, and all of them together take longer to import than one takes to
    # run: only the one that is asked for is imported. If none is named, or one that does not exist, the help lists all
    # of them.
    named = [name for name in arguments[:1] if name in COMMANDS]
    runs_stages = named == ["replay"] or (named == ["run"] and "--in-process" in arguments)  # right here
    if own_process and not runs_stages:
        for name, value in NO_MATRICES.items():
            os.environ.setdefault(name, value)
    if own_process and named == ["run"]:
        # As early as possible. A run of files has no answers then, which is a failure; for `--serve` the end is what
        # was asked for.
        end_before_start(0 if "--serve" in arguments else EXIT_FAILED)
    try:
        app = make_app(named or COMMANDS)
        if own_process:
            # Otherwise what has been imported is searched for garbage again and again, for a sixth of a short command's
            # time.
            gc.freeze()
            gc.enable()
            end_as_usual()
        app(args=arguments, prog_name="pipeline")
    except ConfigError as error:
        say(str(error))
        sys.exit(EXIT_CONFIG)
    except (StartError, ModelError) as error:
        say(str(error))
        sys.exit(EXIT_START)
    except OSError as error:
        # If the error names no file, it is about stdout.
        if error.filename is None and error.errno in _UNPRINTED:
            silence(1)
            say(f"error: stdout: {error.strerror}")
            sys.exit(EXIT_FAILED)
        # If the system refuses something, the operator must act. Any other exception is a bug of ours, and reported as
        # Python does.
        if not is_refusal(error):
            raise
        say(f"error: {refusal_of(error)}")
        sys.exit(EXIT_START)
