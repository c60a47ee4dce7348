"""Printed: what a command makes as text, on stdout or in the file that an option names."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.errors import ConfigError

__all__ = ["put"]


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
