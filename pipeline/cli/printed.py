"""Printed: what a command makes as text, on stdout or in the file that an option names."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.errors import ConfigError

__all__ = ["expect_place", "put"]


def expect_place(output: Path, option: str) -> None:
    """Find before the work, and not after it, that its result has no place.

    Raises:
        ConfigError: `output` is a folder, or is in none.
    """
    if output.is_dir():
        raise ConfigError(f"{option} {output}: expected a file, found a folder; name a file in it")
    if not output.parent.is_dir():
        raise ConfigError(f"{option} {output}: there is no folder {output.parent}")


def put(text: str, output: Path | None, option: str) -> None:
    """Print `text`, which ends in a newline, or write it into a file.

    Args:
        output: the file, which is overwritten; None: stdout.
        option: the one that has named it.

    Raises:
        ConfigError: the file cannot be written.
    """
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{option} {output}: cannot be written: {error.strerror}") from None
