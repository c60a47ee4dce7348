"""A client without a name is called what a person has started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.client.program import program


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/srv/app/app.py", "--port", "80"], "app.py"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["/usr/lib/python3/dist-packages/uvicorn/__main__.py"], "uvicorn"),
        (["-c"], "python3.10 -c"),
        (["-"], "python3.10 -"),
        ([""], "python3.10"),
        ([], "python3.10"),
    ],
)
def test_a_program_is_called_as_it_was_started(monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.10")
    assert program() == expected


def test_a_folder_that_is_run_as_a_program_gives_its_name(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "__main__.py").write_text("from pipeline.client.program import program; print(program())")
    for arguments in ([str(app)], ["-m", "app"]):
        asked = subprocess.run([sys.executable, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, timeout=60, check=True)
        assert asked.stdout == b"app\n"
