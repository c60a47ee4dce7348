"""`pipeline graph`: the graph of a config, as Mermaid text or as an SVG picture. Starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import ConfigArgument, SetOption
from pipeline.cli.printed import put
from pipeline.drawing.diagram import make_diagram
from pipeline.drawing.mermaid import to_mermaid
from pipeline.drawing.svg import to_svg
from pipeline.prepare.preparation import prepare

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(graph)


def graph(
    config: ConfigArgument,
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw a picture into FILE instead; - for stdout.", show_default=False),
    ] = None,
    assignments: SetOption = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Print the graph of a pipeline as Mermaid. Nothing is started."""
    diagram = make_diagram(prepare(config, assignments).plan)
    if svg is None:
        put(to_mermaid(diagram), None, "")
    else:
        put(to_svg(diagram), None if svg == Path("-") else svg, "--svg")
