"""What the fault tests share: a user's folder with stages that die, and the processes of a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from bench.titles import one_in_role
from tests.faults.callers import Caller
from tests.faults.versions import Versions
from tests.foreign.conftest import environment  # noqa: F401 - a fixture
from tests.links import LINK

HERE = Path(__file__).parent

class Folder:
    """A user's folder: deadly_stages.py, and configs over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.capsules = path / "capsules"
        shutil.copy(HERE / "deadly_stages.py", path)

    def config(self, *stages: dict[str, Any], name: str = "faulty", **fields: Any) -> Path:
        """A chain of stages of `Work`: bytes in, the same bytes out. An option's key is "with.option"."""
        document = {
            "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 1024}}],
            "stages": [_stage(number, dict(stage)) for number, stage in enumerate(stages)],
            "capsules": {"folder": str(self.capsules)},
            **LINK,
            **fields,
        }
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


def _stage(number: int, stage: dict[str, Any]) -> dict[str, Any]:
    options = {key[5:]: stage.pop(key) for key in list(stage) if key.startswith("with.")}
    return {"name": f"s{number}", "use": "./deadly_stages.py:Work", "with": options, **stage}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def child_of() -> Callable[[int, str], psutil.Process | None]:
    """The child of a supervisor in a role ("scheduler", "s0/1"), by its name in `ps`; None if there is none now."""

    def child_of(supervisor: int, role: str) -> psutil.Process | None:
        return one_in_role(supervisor, role)

    return child_of


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


@pytest.fixture
def callers() -> Iterator[Callable[..., Caller]]:
    made: list[Caller] = []

    def call(run: str | Path, most: int, kind: type[Caller] = Caller) -> Caller:
        caller = kind(run, most)
        made.append(caller)
        caller.start()
        return caller

    yield call
    for caller in made:
        caller.enough.set()
        caller.join()
