"""For the tests that hold the gateway against the servers and clients of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.versus.environments import MissingEnvironment, UnreachableSource, required


@pytest.fixture(scope="session")
def environment() -> Callable[[Path], Path]:
    """A folder that `make test-foreign` fills. If it is not there, skip, and say why; in CI only if it cannot be reached."""

    def environment(folder: Path) -> Path:
        try:
            return required(folder)
        except MissingEnvironment as error:
            if os.environ.get("CI") and not isinstance(error, UnreachableSource):
                raise
            pytest.skip(str(error))

    return environment
