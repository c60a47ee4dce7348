"""`pipeline init`: a folder that runs, for a model: a YAML, two stages, a sample and a test."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError, StartError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(init)


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's file, or a name of the catalogue.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where to; default: a folder of the model's name.", show_default=False),
    ] = None,
    maxima: Annotated[
        list[str],
        typer.Option("--max", metavar="NAME=N", help="How large a free dimension may get.", show_default=False),
    ] = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Write a YAML, two stages, a sample and a test for a model. All of them run as they are."""
    from pipeline.generating.folder import contents  # with onnxruntime, which no other command should wait for
    from pipeline.generating.naming import pipeline_name

    _pull(model)
    into = folder if folder is not None else Path(pipeline_name(Path(model).stem if model.endswith(".onnx") else model))
    if into.exists() and not into.is_dir():
        raise ConfigError(f"{into}: expected a folder, or none yet; found a file")
    files = contents(model, into, _maxima(maxima))
    if there := [str(into / name) for name in files if (into / name).exists()]:
        raise ConfigError(f"nothing was written, for there is already {', '.join(there)}; name another folder")
    try:
        into.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with open(into / name, "xb") as file:
                file.write(content)
            print(into / name)
    except OSError as error:
        raise StartError(f"cannot write {error.filename}: {error.strerror}") from error
    config, sample = list(files)[:2]
    named, data, tests = (shlex.quote(str(path)) for path in (into / config, into / sample, into))
    print(f"\nNow:\n  pipeline run {named} {data}\n  python -m pytest {tests}")


def _maxima(given: list[str]) -> dict[str, int]:
    maxima: dict[str, int] = {}
    for text in given:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"--max {text}: expected NAME=N, such as H=640")
        maxima[name] = int(number)
    return maxima


def _pull(model: str) -> None:
    """Fetch a model of the catalogue that is not here yet, as `pipeline run` does."""
    from stages.catalogue import ASSETS, cache_dir
    from stages.errors import ModelError

    if model in ASSETS and not (cache_dir() / ASSETS[model].file).exists():
        from pipeline.models.pull import pull

        print(f"fetching {model} ({ASSETS[model].nbytes / 1e6:.1f} MB, {ASSETS[model].licence}) ...", file=sys.stderr)
        try:
            pull(model)
        except ModelError as error:
            raise StartError(str(error)) from error
