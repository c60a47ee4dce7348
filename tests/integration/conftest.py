"""What tests with real processes share: a user's folder with stages and configs of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

HERE = Path(__file__).parent

class Folder:
    """A user's folder: sample_stages.py, and configs over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copy(HERE / "sample_stages.py", path)

    def config(self, *stages: dict[str, Any], name: str = "sample", **fields: Any) -> Path:
        """A chain of stages, of the class Work unless they name another one; bytes in, the same bytes out."""
        document = {
            "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}],
            "stages": [{"name": f"s{i}", "use": "./sample_stages.py:Work", **stage} for i, stage in enumerate(stages)],
            **fields,
        }
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def file(self, name: str, data: bytes = b"some bytes") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def files(self, count: int, data: bytes = b"some bytes") -> list[Path]:
        return [self.file(f"files/{number:04}.bin", data) for number in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def children_of() -> Callable[[int], dict[str, psutil.Process]]:
    """The children of a supervisor, by their names in `ps`."""

    def children_of(pid: int) -> dict[str, psutil.Process]:
        return {" ".join(child.cmdline()).strip(): child for child in psutil.Process(pid).children()}

    return children_of
