"""`pipeline detector`: a pipeline as the detector of Frigate, over ZeroMQ."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import SetOption, is_config
from pipeline.cli.printed import expect_place
from pipeline.cli.run import pull_models
from pipeline.config.loader import load_config
from pipeline.detecting.boxes import COLUMNS, columns_of
from pipeline.detecting.service import Wanted, serve, serve_config
from pipeline.errors import ConfigError, Unavailable
from pipeline.streams import say

__all__ = ["register"]

_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(detector)


def detector(
    target: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|NAME",
            help="The YAML file of a pipeline to start, which ends with this command; or the name of one that runs.",
            show_default=False,
        ),
    ],
    endpoint: Annotated[
        str,
        typer.Option("--zmq", metavar="ENDPOINT", help="Where Frigate's detectors connect; tcp:// or ipc://."),
    ] = "tcp://127.0.0.1:5555",
    deadline_ms: Annotated[
        float, typer.Option("--deadline-ms", help="How long an answer may take. Frigate's request_timeout_ms.")
    ] = 200.0,
    output: Annotated[
        str,
        typer.Option(
            "--output", metavar="NAME", help="The output with the boxes. Default: the only one that fits.",
            show_default=False,
        ),
    ] = "",
    columns: Annotated[
        str, typer.Option("--columns", help="What the columns of that output are; -: nothing that is needed.")
    ] = ",".join(COLUMNS),
    pixels: Annotated[
        bool,
        typer.Option("--pixels", help="Corners are in pixels of the frame, and not from 0 to 1.", show_default=False),
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics", metavar="FILE", help="Write counts there, for a textfile collector of Prometheus.",
            show_default=False,
        ),
    ] = None,
    assignments: SetOption = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Find things in the frames of Frigate, whose detectors are of type `zmq`: docs/frigate.md."""
    if not 0 < deadline_ms < 60_000:
        raise ConfigError(f"--deadline-ms: expected more than 0 and less than 60000, found {deadline_ms:g}")
    if metrics is not None:
        expect_place(metrics, "--metrics")
    wanted = Wanted(endpoint, deadline_ms, output, columns_of(columns), pixels, metrics)
    starts = is_config(target)
    if assignments and not starts:
        raise ConfigError(f"--set changes a config, and {target} runs already")
    try:
        if starts:
            loaded = load_config(target, assignments)
            pull_models(loaded)
            sys.exit(serve_config(target, loaded.config.name, assignments, wanted))
        asyncio.run(serve(target, wanted))
    except Unavailable as error:
        say(f"error: {error}")
        sys.exit(_FAILED)
