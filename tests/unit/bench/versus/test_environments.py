"""The environments of others: what is missing says how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.versus import environments
from bench.versus.environments import MissingEnvironment, UnreachableSource, python_of, required


def test_an_environment_that_is_not_there_or_was_interrupted_says_how_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_BUILD", tmp_path / "build")
    folder = tmp_path / "build/other"
    (folder / "bin").mkdir(parents=True)
    with pytest.raises(MissingEnvironment, match=r"there is no build/other: `make build/other/\.there` makes it"):
        python_of(folder)
    (folder / ".unreachable").touch()
    with pytest.raises(UnreachableSource, match="there is no build/other: what it is made of cannot be reached"):
        required(folder)
    (folder / ".there").touch()
    assert required(folder) == folder
    assert python_of(folder) == str(folder / "bin/python")


def test_the_makefile_makes_each_of_them() -> None:
    makefile = (Path(__file__).parents[4] / "Makefile").read_text()
    for folder in (environments.TRITON, environments.TRITON_CLIENT, environments.ANALYZER, environments.MOSEC):
        assert f":= build/{folder.name}\n" in makefile
