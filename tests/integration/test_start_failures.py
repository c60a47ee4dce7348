"""A pipeline that cannot start names the stage and the reason, ends with its exit code, and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "RuntimeError: broken on purpose"),
        ("sys.exit", "could not start: SystemExit: 7 (sample_stages.py:"),
        ("os._exit", "exit code 9"),
        ("segfault", "SIGSEGV"),
    ],
)
def test_a_stage_that_dies_in_setup_ends_the_start_with_3(
    cli: Callable[..., Any], folder: Any, how: str, said: str
) -> None:
    config = folder.config({}, {"with": {"dies_in": "setup", "how": how}}, {"replicas": 2})
    earlier = folder.file("out.jsonl", b"of an earlier run")
    code, out, err = cli("run", config, folder.file("a.bin"), "--output", earlier, "--overwrite")
    assert (code, out) == (3, ""), err
    assert "s1/0" in err
    assert said in err
    if how == "raise":
        # The stage's own traceback, down to the line that raised.
        assert "could not start: RuntimeError: broken on purpose (sample_stages.py:" in err
        assert "pipeline/worker" not in err, "frames of the runtime"
        assert 'sample_stages.py", line' in err
        assert "in die" in err
    assert earlier.read_bytes() == b"of an earlier run"


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("raise", 2, "RuntimeError: broken on purpose"),
        ("sys.exit", 2, "SystemExit: 7"),
        ("os._exit", 3, "ended the process with exit code 9"),
        ("segfault", 3, "ended the process with SIGSEGV"),
    ],
)
def test_a_stage_that_dies_in_its_constructor_is_named_with_its_line(
    cli: Callable[..., Any], folder: Any, how: str, code: int, said: str
) -> None:
    config = folder.config({}, {"with": {"dies_in": "init", "how": how}})
    found, out, err = cli("run", config, "--serve")
    assert (found, out) == (code, ""), err
    assert "sample.yaml:" in err
    assert said in err


def test_a_file_that_cannot_be_imported_is_a_mistake_of_the_config(cli: Callable[..., Any], folder: Any) -> None:
    folder.file("broken.py", b"import no_such_library\n")
    code, out, err = cli("run", folder.config({}, {"use": "./broken.py:Work"}), "--serve")
    assert (code, out) == (2, "")
    assert "No module named 'no_such_library'" in err
    assert "sample.yaml:" in err


def test_a_run_folder_whose_path_is_too_long_for_sockets_is_refused(
    cli: Callable[..., Any], folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / ("x" * 100)))
    code, out, err = cli("run", folder.config({}), "--serve")
    assert (code, out) == (3, "")
    assert "unix sockets allow 107. Set TRTLAB_RUN_DIR to a shorter folder" in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path / ("x" * 100)) == []


def test_what_a_stage_prints_is_passed_on_under_its_name(cli: Callable[..., Any], folder: Any) -> None:
    folder.file(
        "talks.py",
        b"from sample_stages import Work\n"
        b"class Talks(Work):\n"
        b"    def setup(self, context):\n"
        b"        print('hello from setup')\n",
    )
    code, out, err = cli("run", folder.config({"use": "./talks.py:Talks"}), folder.file("a.bin"))
    assert (code, err) == (0, "s0/0 | hello from setup\n")
    assert "hello" not in out
