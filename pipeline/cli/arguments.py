"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchSizeOption", "ConfigArgument", "DeadlineOption", "InputOption", "JsonReportOption", "MaxOutstandingOption",
    "ModelOption", "SetOption", "ShapeOption", "TargetArgument", "TimeoutOption", "TokenOption",
]  # fmt: skip

ConfigArgument = Annotated[Path, typer.Argument(help="The pipeline's YAML file.", show_default=False)]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change the config: inference.batch.max_size=16, inference.engine=tensorrt, drain_s=1. Repeatable.",
        show_default=False,
    ),
]

# -- of the load generators; those of tensorrt-laboratory are spelled with `_` there --------------------

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|URL",
        help="A pipeline that runs on this host, by name or by the run's id; or grpc://HOST:PORT or http://HOST:PORT "
        "of a server of KServe v2.",
        show_default=False,
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", "--batch_size", min=1, metavar="N", help="Rows of each request.")
]
MaxOutstandingOption = Annotated[
    int,
    typer.Option(
        "--max-outstanding", "--max_outstanding", min=1, metavar="N", help="Requests without an answer at most."
    ),
]
InputOption = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="NAME=FILE",
        help="What an input carries: a .npy file, a picture, a JSON document. Repeatable; default: random values.",
        show_default=False,
    ),
]
ShapeOption = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=N,N",
        help="The shape of random values, if a dimension is free. Repeatable.",
        show_default=False,
    ),
]
DeadlineOption = Annotated[
    float | None,
    typer.Option("--deadline-ms", "--deadline_ms", metavar="MS", help="Of each request.", show_default=False),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.0, metavar="S", help="Seconds to wait for the last answers.")
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Of a server with several models.", show_default=False)
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="A file with the bearer token that the server wants.", show_default=False),
]
JsonReportOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
