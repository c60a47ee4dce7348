"""A manager in the tests of a user: of a session, with xdist, forgotten, under the strictest settings of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from shm import leftovers
from tests.faults.load import until

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

CONFTEST = """
import pytest
import pipeline

@pytest.fixture(scope="session")
def manager():
    with pipeline.InferenceManager("sample.yaml") as manager:
        yield manager
"""

TESTS = """
import gc, os, sys, threading
import pytest
import pipeline
from pipeline.testing import running

def ask(manager, data=b"x"):
    return bytes(manager.infer_runner("sample").infer(data=data).get(timeout=200)["data"])

@pytest.mark.parametrize("number", range(6))
def test_it_answers(manager, number):
    assert ask(manager, b"%d" % number) == b"%d" % number

def test_what_it_prints_can_be_captured(capsys):
    with pipeline.InferenceManager("sample.yaml", assignments=["name=other"]) as manager:
        assert manager.get_models() == ["other"]
    assert "other | info: ready" in capsys.readouterr().err

def test_what_others_started():
    with running("sample.yaml") as run, pipeline.connect(run.run_dir) as manager:
        assert ask(manager) == b"x"

def test_one_that_is_dropped_leaves_nothing():
    before = set(os.listdir("/proc/self/fd"))
    manager = pipeline.InferenceManager("sample.yaml", assignments=["name=dropped"])
    assert bytes(manager.infer_runner("dropped").infer(data=b"x").get(timeout=200)["data"]) == b"x"
    del manager
    gc.collect()

def test_one_that_fails():
    with pytest.raises(pipeline.errors.StartError):
        pipeline.InferenceManager("sample.yaml", assignments=["s0.with.dies_in=setup"])

forgotten = None

def test_one_that_is_forgotten():
    global forgotten
    forgotten = pipeline.InferenceManager("sample.yaml", assignments=["name=forgotten"])
    assert forgotten.get_models() == ["forgotten"]
"""


@pytest.mark.parametrize("options", [[], pytest.param(["-n", "2"], marks=pytest.mark.foreign)])  # it takes a minute
def test_a_users_tests_pass_without_a_warning_and_leave_nothing(folder: Any, options: list[str]) -> None:
    folder.config({})
    folder.file("conftest.py", CONFTEST.encode())
    folder.file("test_user.py", TESTS.encode())
    strict = ["-W", "error", "-X", "dev", "-X", "tracemalloc=5"] if not options else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *strict, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, str(folder.path)],
        cwd=folder.path, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout
    # What the run printed that fails on purpose is no warning.
    said = [line for line in (done.stdout + done.stderr).splitlines() if " | " not in line]
    assert not [line for line in said if "Warning" in line or "Exception ignored" in line or "Traceback" in line], said
    # When pytest has ended, so has everything that it has started; under xdist, which ends its workers hard, soon after.
    home = os.environ["TRTLAB_RUN_DIR"]
    until(lambda: os.listdir(home) == [])
    assert [found.name for found in leftovers.scan() if found.state.path.startswith(home)] == []
