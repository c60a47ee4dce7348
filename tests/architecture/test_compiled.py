"""What runs is what is meant: the sources as they stand, or what `make compiled` made of them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.testing import running

ROOT = Path(__file__).resolve().parents[2]
COMPILED = os.environ.get("TRTLAB_COMPILE") == "1"
#: One of each package of which setup.py compiles something.
MODULES = (
    "pipeline.graph.compiled", "pipeline.processes.worker", "pipeline.scheduler.scheduler", "pipeline.wire.flattening",
    "pipeline.worker.replica", "shm.pool", "stages.engines.transfers",
)  # fmt: skip

CONFIG = """\
name: sample
inputs:
  - {name: tensor, dtype: uint8, shape: [1]}
stages:
  - {name: relay, use: "stages.relay:Relay", with: {shape: [1]}}
"""


def is_meant(file: str) -> bool:
    return file.startswith(f"{ROOT}/") and file.endswith(".so" if COMPILED else ".py")


@pytest.mark.parametrize("module", MODULES)
def test_the_tests_import_what_is_meant(module: str) -> None:
    file = str(importlib.import_module(module).__file__)
    assert is_meant(file), file


@pytest.mark.parametrize("module", MODULES)
def test_a_process_of_any_folder_imports_what_is_meant(module: str, tmp_path: Path) -> None:
    code = f"import {module} as module; print(module.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert is_meant(done.stdout.strip()), done.stdout


def test_every_process_of_a_pipeline_runs_what_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "sample.yaml"
    config.write_text(CONFIG)
    with running(config) as pipeline:
        children = psutil.Process(pipeline.pid).children()
        mapped = {" ".join(child.cmdline()): {mapping.path for mapping in child.memory_maps()} for child in children}
    # What mypyc makes is one library, and a few bytes for each module that lead there.
    found = {name: [path for path in paths if "trtlab__mypyc" in path] for name, paths in mapped.items()}
    assert len(found) == 2, "the scheduler and a worker"
    assert all([path.startswith(f"{ROOT}/") for path in paths] == [True] * COMPILED for paths in found.values()), found


def test_the_command_says_whether_it_is_compiled(cli: Callable[..., Any]) -> None:
    assert cli("--version").out == f"trtlab {metadata.version('trtlab')}{' (compiled)' * COMPILED}\n"
