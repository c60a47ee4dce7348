"""Configured: the settings of a gateway from what configs say of it in `serve:`, and what is given beside them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config.loader import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.kserve.token import why_no_token
from pipeline.serving.settings import Settings, merged

__all__ = ["check_libraries", "settings_of", "token_in"]

#: What the extra brings, as it is imported, which the gateways do.
_LIBRARIES = ("grpc", "google.protobuf", "starlette", "uvicorn", "h11")


def settings_of(configs: Mapping[str, LoadedConfig], given: Mapping[str, Any]) -> Settings:
    """What the configs say in `serve:`, as one.

    Args:
        configs: by their paths.
        given: what counts in place of that, by the fields of `Settings`; None: the configs decide.

    Raises:
        ConfigError: two configs say different things; a file with a token cannot be read.
    """
    said = merged([(path, _said(each)) for path, each in configs.items()])
    return Settings(**{**said, **{name: value for name, value in given.items() if value is not None}})


def check_libraries() -> None:
    """That the gateways can import what they need.

    Raises:
        ConfigError: a library of the extra is missing.
    """
    for name in _LIBRARIES:
        try:
            there = find_spec(name) is not None
        except ModuleNotFoundError:  # of a package that the name lies in
            there = False
        if not there:
            raise ConfigError(f'serve needs a library that is missing, {name}: pip install "trtlab[serve]"')


def token_in(path: Path) -> str:
    """The token that is the text of a file.

    Raises:
        ConfigError: it cannot be read, is empty, or is no token.
    """
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a file with a token: {error}") from None
    if not token:
        raise ConfigError(f"{path}: expected a file with a token, found an empty one")
    if why := why_no_token(token):
        raise ConfigError(f"{path}: expected a file with a token: {why}")
    return token


def _said(loaded: LoadedConfig) -> dict[str, Any]:
    """What the `serve:` of a config says of the gateway, by the fields of `Settings`; None: nothing."""
    config, folder = loaded.config.serve, loaded.base_dir
    said: dict[str, Any] = config.model_dump(exclude={"batched", "max_batch_size", "token_file", "tls"})
    if config.token_file is not None:
        said["token"] = token_in(folder / config.token_file)
    if config.tls is not None:
        said |= {
            "certificate": str(folder / config.tls.certificate),
            "key": str(folder / config.tls.key),
            "client_ca": "" if config.tls.client_ca is None else str(folder / config.tls.client_ca),
        }
    return said
