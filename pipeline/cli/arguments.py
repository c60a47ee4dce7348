"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ConfigArgument", "SetOption"]

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
