"""`make wheels`, and what pip takes from a folder that has a compiled wheel and the pure one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.foreign, pytest.mark.longest, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
COMPILERS = ("cc", "gcc", "clang", "c++", "g++")
CONFIG = """\
name: sample
inputs:
  - {name: tensor, dtype: uint8, shape: [4]}
stages:
  - {name: relay, use: "stages.relay:Relay", with: {shape: [4]}}
"""
PROGRAM = """
import sys
import numpy as np
import pipeline.scheduler.scheduler as scheduler
from pipeline import connect
from pipeline.testing import running
with running(sys.argv[1]) as run, connect(run.run_dir) as manager:
    print(scheduler.__file__)
    print(manager.infer_runner("sample").infer(tensor=np.arange(4, dtype=np.uint8)).get(200)["tensor"].tolist())
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheels for this interpreter: some minutes of a compiler, once for all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "dist"
    command = ["make", "--no-print-directory", "wheels", f"PYTHONS={sys.executable}", f"DIST={folder}"]
    # Two of them at a time would remove each other's files.
    with folder.with_name("dist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built := folder.with_name("dist.built")).exists():
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            built.touch()
    return folder


def installed(python: str, folder: Path, wheels: Path) -> Path:
    """The programs of a new environment with trtlab of that folder, made with no compiler on PATH."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True, timeout=300)
    programs = folder / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    # First the wheel of that folder, and of no index; then what it needs, as wheels.
    for options in (["--no-index", "--no-deps"], ["--only-binary", ":all:"]):
        command = [*pip, "--find-links", str(wheels), *options, "trtlab"]
        subprocess.run(command, env=bare(programs), check=True, timeout=600)
    return programs


def bare(programs: Path) -> dict[str, str]:
    """The variables of this process, with a PATH of these programs alone."""
    assert not any(shutil.which(name, path=str(programs)) for name in COMPILERS)
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "PATH": str(programs)}


def said(programs: Path, folder: Path, *command: str) -> list[str]:
    done = subprocess.run(
        [str(programs / command[0]), *command[1:]], env=bare(programs), cwd=folder, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_sample(programs: Path, folder: Path) -> list[str]:
    """Of a small pipeline: the file of the scheduler that a program imports, and the answer."""
    (folder / "sample.yaml").write_text(CONFIG)
    return said(programs, folder, "python", "-c", PROGRAM, "sample.yaml")


def others() -> Iterator[str]:
    """Supported interpreters of other versions than this one, as make finds them."""
    show = ["make", "--no-print-directory", "--eval", "show:; @echo $(PYTHONS)", "show"]
    for python in subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
        code = "import sys; print(f'cp{sys.version_info[0]}{sys.version_info[1]}')"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip() != TAG:
            yield python


def test_there_is_a_compiled_wheel_for_many_systems_and_the_pure_one(wheels: Path) -> None:
    pure, compiled = sorted(wheels.iterdir(), key=lambda wheel: "none-any" not in wheel.name)
    assert pure.name.endswith("-py3-none-any.whl")
    assert f"-{TAG}-{TAG}-" in compiled.name
    assert "manylinux" in compiled.name
    names = {wheel: ZipFile(wheel).namelist() for wheel in (pure, compiled)}
    assert [name for name in names[pure] if name.endswith(".so")] == []
    assert any(name.startswith("pipeline/scheduler/scheduler.") and name.endswith(".so") for name in names[compiled])
    # The sources are in both: a traceback shows their lines.
    assert {name for name in names[pure] if name.endswith(".py")} <= set(names[compiled])


def test_an_install_takes_the_compiled_build_without_a_compiler(wheels: Path, tmp_path: Path) -> None:
    programs = installed(sys.executable, tmp_path / "venv", wheels)
    (version,) = said(programs, tmp_path, "pipeline", "--version")
    assert version.endswith(" (compiled)")
    file, answer = run_sample(programs, tmp_path)
    assert file.startswith(str(tmp_path))
    assert file.endswith(".so")
    assert answer == "[0, 1, 2, 3]"


def test_an_interpreter_without_a_compiled_wheel_gets_the_pure_one(wheels: Path, tmp_path: Path) -> None:
    python = next(others(), None)
    if python is None:
        pytest.skip("there is no other Python of 3.10 to 3.13 on this machine")
    programs = installed(python, tmp_path / "venv", wheels)
    (version,) = said(programs, tmp_path, "pipeline", "--version")
    assert not version.endswith(" (compiled)")
    file, answer = run_sample(programs, tmp_path)
    assert file.startswith(str(tmp_path))
    assert file.endswith("/pipeline/scheduler/scheduler.py")
    assert answer == "[0, 1, 2, 3]"
