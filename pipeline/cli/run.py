"""`pipeline run`: start the pipeline of a config, run files through it, or serve until told to stop."""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import ConfigArgument, SetOption
from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError, StartError
from pipeline.feeding.sources import expand
from pipeline.graph.preparation import prepare_loaded
from pipeline.models.pull import pull
from pipeline.supervisor.supervisor import supervise
from stages.catalogue import ASSETS, cache_dir
from stages.errors import ModelError

__all__ = ["register"]

_COLOURS = {"error": "red", "warning": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(run)


def run(
    config: ConfigArgument,
    inputs: Annotated[
        list[str], typer.Argument(metavar="[PATH|DIR|GLOB]...", help="What to run; default: the config's run.inputs.")
    ] = [],  # noqa: B006 (typer's own form of a default)
    output: Annotated[
        Path | None, typer.Option("--output", help="Write one JSON object a request to this file.", show_default=False)
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Run no files; serve clients until SIGTERM or Ctrl-C.")
    ] = False,
    assert_zero_copy: Annotated[
        bool,
        typer.Option("--assert-zero-copy", help="Exit with 1 if the runtime copied a tensor, and say which and why."),
    ] = False,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", help="Run all stages in this process: for breakpoint(), print, pdb, cProfile and py-spy."
        ),
    ] = False,
    assignments: SetOption = [],  # noqa: B006
) -> None:
    """Run files through a pipeline, or serve it to clients."""
    loaded = load_config(config, assignments)
    feeder = None if serve else {**_feeder(loaded, inputs, output), "assert_zero_copy": assert_zero_copy}
    if serve and (inputs or output):
        raise ConfigError("--serve runs no files: leave out the files and --output, or leave out --serve")
    if serve and assert_zero_copy:
        raise ConfigError("--assert-zero-copy is about a run of files; while it serves, `pipeline status` shows copies")
    if serve and in_process:
        raise ConfigError("--in-process runs files and has no clients: leave out --serve, or --in-process")
    _pull_models(loaded)
    if feeder is not None and in_process:
        from pipeline.inprocess.running import run_in_process  # which no other run has to wait for

        faulthandler.enable()
        sys.exit(run_in_process(loaded, feeder))
    prepared = prepare_loaded(loaded)
    prepared.budget.refuse()

    def log(level: str, text: str) -> None:
        if level != "info" or serve:
            # Not by rich, which the tables are made with: to import it would be an eighth of the start.
            colour = False if "NO_COLOR" in os.environ else None  # None: where it is a terminal
            typer.secho(f"{level}: {text}", fg=_COLOURS.get(level), err=True, color=colour)

    def on_ready(run_dir: Path) -> None:
        if serve:
            print(f"serving {prepared.plan.name} in {run_dir}", flush=True)

    # Whatever kills the supervisor itself takes the run down with it: then at least it says where.
    faulthandler.enable(all_threads=False)
    sys.exit(supervise(prepared.plan, feeder=feeder, log=log, on_ready=on_ready))


def _feeder(loaded: LoadedConfig, inputs: list[str], output: Path | None) -> dict[str, object]:
    if inputs:
        files = expand(inputs, Path(), loaded.config.run.files)
    elif loaded.config.run.inputs:
        files = [os.path.relpath(f) for f in expand(loaded.config.run.inputs, loaded.base_dir, loaded.config.run.files)]
    else:
        raise ConfigError(f"nothing to run: name files, or give {loaded.path} a run.inputs, or use --serve")
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: the folder {output.absolute().parent} does not exist")
    if output is not None and output.is_dir():
        raise ConfigError(f"--output {output}: expected a file, found a folder")
    return {"files": files, "output": None if output is None else str(output)}


def _pull_models(loaded: LoadedConfig) -> None:
    """Fetch what the stages' options name out of the catalogue, where it is not here yet."""
    for stage in loaded.config.stages:
        for value in stage.options.values():
            if isinstance(value, str) and value in ASSETS and not (cache_dir() / ASSETS[value].file).exists():
                asset = ASSETS[value]
                print(f"fetching {value} ({asset.nbytes / 1e6:.1f} MB, {asset.licence}) ...", file=sys.stderr)
                try:
                    pull(value)
                except ModelError as error:
                    raise StartError(str(error)) from error
