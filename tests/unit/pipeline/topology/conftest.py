"""Machines as trees of files, as their kernels show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Tree = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files (path below the root -> text) and returns the root."""

    def write(files: Mapping[str, str]) -> Path:
        root = tmp_path / "root"
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        root.mkdir(exist_ok=True)
        return root

    return write
