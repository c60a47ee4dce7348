"""`pipeline schema`: the JSON Schema of a config, for editors that complete and check YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.printed import put
from pipeline.config.schema import PipelineConfig

__all__ = ["json_schema", "register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(schema)


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of to stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of the YAML."""
    put(json_schema(), output, "--output")


def json_schema() -> str:
    """The schema as indented JSON, ending in a newline."""
    document = PipelineConfig.model_json_schema(by_alias=True)
    # The file's stem is the default, which no schema can say.
    document["required"].remove("name")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=2) + "\n"
