"""A config in a folder of its own, and its complaints without that folder's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedConfig]:
    def load(text: str | bytes, *assignments: str, name: str = "demo.yaml") -> LoadedConfig:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, assignments)

    return load


@pytest.fixture
def complaints(tmp_path: Path, load: Callable[..., LoadedConfig]) -> Callable[..., list[str]]:
    """The lines of the ConfigError that a text causes."""

    def complaints(text: str | bytes, *assignments: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, *assignments)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return complaints
