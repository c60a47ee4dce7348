"""`pipeline serve`: pipelines as models of KServe v2, over HTTP and gRPC."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from pipeline.cli.arguments import (
    AccessLogOption,
    LogFileOption,
    LogFormatOption,
    LogLevelOption,
    SetOption,
    is_config,
    log_settings,
    told,
)
from pipeline.cli.run import pull_models
from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ClientMisuse, ConfigError, KserveError, Unavailable
from pipeline.keeping.folder import Folder, Found
from pipeline.keeping.keeper import Keeper
from pipeline.keeping.models import KeptModels
from pipeline.logs.log import OperatorLog
from pipeline.sd_notify import NotifySocket
from pipeline.serving.checked import check_settings
from pipeline.serving.configured import check_libraries, settings_of, token_in
from pipeline.serving.settings import Settings
from pipeline.supervisor.signals import await_no_log
from pipeline.wire.home import named_folder
from pipeline.wire.run_dir import pipeline_of
from stages.errors import ModelError
from stages.hints import did_you_mean

__all__ = ["register"]

_FAILED = 1
_PORT = {"min": 0, "max": 65_535, "metavar": "PORT", "show_default": False}
_ALL = "*"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(serve)


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG|NAME...",
            help="YAML files of pipelines to start, which end with this command; or the names of pipelines that run.",
            show_default=False,
        ),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            "--repository", metavar="DIR", help="Serve each YAML file of this folder as a model.", show_default=False
        ),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Clients may load and unload models.", show_default=False)
    ] = False,
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Clients may write zones into the configs; needs a token.", show_default=False),
    ] = False,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--load", metavar="NAME",
            help="With --repository and --control: a model to load at the start; '*': all. The others are for "
            "clients to load. May be repeated.",
            show_default=False,
        ),
    ] = None,
    gateways: Annotated[
        int | None,
        typer.Option(
            "--gateways", min=1, max=64, help="Processes that share the ports. Default: 1.", show_default=False
        ),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", help="Of HTTP; 0: any. Default: 8000.", **_PORT)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", help="Of gRPC; 0: any. Default: 8001.", **_PORT)
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", help="Of /metrics; 0: any. Default: 8002.", **_PORT)
    ] = None,
    host: Annotated[
        str | None,
        typer.Option("--host", help="The address to listen on. Default: 127.0.0.1.", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A file with the bearer token that requests need.", show_default=False),
    ] = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    log_file: LogFileOption = None,
    access_log: AccessLogOption = False,
    assignments: SetOption = [],  # noqa: B006 (typer's own form of a default)
) -> None:
    """Serve pipelines to clients of KServe v2, such as Triton's: over HTTP and gRPC.

    The `serve:` of a config says the rest: docs/serving.md. Needs the extra `serve` of the package trtlab.
    """
    # Before any child is born.
    notify = NotifySocket.take(os.environ)
    check_libraries()
    there = _sources(models or [], repository, assignments)
    given = {
        "http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port, "host": host,
        "token": None if token_file is None else token_in(token_file), "gateways": gateways, "control": control or None,
        "edit": edit or None,
        "repository": repository is not None,
    }  # fmt: skip
    settings = settings_of({**there.loaded, **there.files}, given)
    check_settings(settings)
    wanted = _wanted(load or [], there, settings)
    await_no_log()
    log = OperatorLog(log_settings(log_format, log_level, log_file, access=access_log), process="serve")
    for each in [*there.loaded.values(), *[file for file in there.files.values() if file.config.name in wanted]]:
        pull_models(each)
    try:
        made = partial(KeptModels, there.configs, there.running, there.folder, wanted, assignments, log=log)
        with told(log):
            code = Keeper(settings, made, log=log, notify=notify).run()
    except (Unavailable, ClientMisuse, KserveError, ModelError) as error:
        log("error", str(error))
        sys.exit(_FAILED)
    finally:
        if notify is not None:
            notify.close()
        log.close()
    sys.exit(code)


class _Sources(NamedTuple):
    """What is served."""

    loaded: dict[str, LoadedConfig]
    """The configs that were named, by their paths."""
    configs: dict[str, str]
    """Their paths, by the names of their models."""
    running: dict[str, str]
    """Pipelines that run: by their names, where clients connect."""
    folder: Folder | None
    found: dict[str, Found]
    """The models of the folder."""
    files: dict[str, LoadedConfig]
    """Those that can be served, by their paths."""


def _sources(named: list[str], repository: Path | None, assignments: list[str]) -> _Sources:
    """What the command line names.

    Raises:
        ConfigError: nothing; a config is wrong; two models have one name; there is no such folder.
    """
    if not named and repository is None:
        raise ConfigError("expected a CONFIG, the NAME of a pipeline that runs, or --repository DIR, found none")
    paths = [each for each in named if is_config(each)]
    running = dict(_running(each) for each in named if not is_config(each))
    if assignments and not paths and repository is None:
        raise ConfigError("--set changes a config, and the pipelines that are named here run already")
    loaded = {path: load_config(path, assignments) for path in paths}
    configs = _by_name(loaded, running)
    folder = None if repository is None else Folder(repository, assignments)
    found = {} if folder is None else folder.look()
    for name, each in found.items():
        if name in configs or name in running:
            raise ConfigError(
                f"{each.path}: a model of the name {name!r} is also named on the command line; leave one of them out"
            )
    files = {each.path: load_config(each.path, assignments) for each in found.values() if not each.why}
    return _Sources(loaded, configs, running, folder, found, files)


def _wanted(load: list[str], there: _Sources, settings: Settings) -> set[str]:
    """The models of the repository that are loaded at the start.

    Raises:
        ConfigError: one is not there; or it makes no sense to choose.
    """
    folder, found = there.folder, there.found
    if load and folder is None:
        raise ConfigError("--load chooses among the models of a repository: expected --repository DIR beside it")
    if load and not settings.control:
        raise ConfigError(
            "--load chooses what is loaded at the start, and clients load the rest: expected --control (or serve: "
            "{control: true}) beside it; without it all models are loaded"
        )
    if folder is not None and not settings.control and not found:
        raise ConfigError(f"{folder.path}: expected at least one file NAME.yaml, found none")
    for name in load:
        if name != _ALL and name not in found:
            hint = did_you_mean(name, found)
            raise ConfigError(f"--load: there is no model {name!r} in {folder and folder.path}{hint}")
    return set(found) if _ALL in load or not settings.control else set(load)


def _running(named: str) -> tuple[str, str]:
    """The name of a pipeline that runs, and where its clients connect: to any run of it, unless one run was named."""
    folder = named_folder(named)
    return (named, named) if folder is None else (pipeline_of(folder), str(folder.absolute()))


def _by_name(loaded: dict[str, LoadedConfig], running: Collection[str]) -> dict[str, str]:
    """The paths of the configs by the names of their models.

    Raises:
        ConfigError: two have one name.
    """
    found: dict[str, str] = {}
    for path, each in loaded.items():
        name = each.config.name
        if name in found or name in running:
            raise ConfigError(f"{path}: a model of the name {name!r} is named twice; give one of them another name")
        found[name] = path
    return found
