"""A user's own files can be imported from their folder, and hide no modules of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHADOWS = ("queue", "types", "stages", "shm", "pipeline", "numpy", "json", "zmq")


def outputs(path: Path) -> list[bytes]:
    return [bytes(json.loads(line)["outputs"]["data"]) for line in path.read_text().splitlines()]


def function(name: str, **options: Any) -> dict[str, Any]:
    spec = [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}]
    return {"use": name, "with": {"inputs": spec, "outputs": spec, **options}}


def test_a_class_and_a_function_of_the_users_own_file(cli: Callable[..., Any], folder: Any, tmp_path: Path) -> None:
    config = folder.config({}, function("./sample_stages.py:louder", by=2))
    code, _, err = cli("run", config, folder.file("a.bin", b"ABC"), "--output", tmp_path / "out.jsonl")
    assert (code, err) == (0, "")
    assert outputs(tmp_path / "out.jsonl") == [b"CDE"]


def test_a_module_beside_the_config_or_in_the_current_folder(cli: Callable[..., Any], folder: Any) -> None:
    here = folder.path / "here"
    here.mkdir()
    (here / "other_stages.py").write_text("from sample_stages import louder\n")
    config = folder.config({"use": "sample_stages:Work"}, function("other_stages:louder"))
    code, _, err = cli("run", config, folder.file("a.bin", b"ABC"), "--output", "out.jsonl", cwd=here)
    assert (code, err) == (0, "")
    assert outputs(here / "out.jsonl") == [b"BCD"]


@pytest.mark.parametrize("beside", ["the config", "the current folder"])
def test_a_users_file_hides_no_module_of_ours_or_of_python(
    cli: Callable[..., Any], folder: Any, tmp_path: Path, beside: str
) -> None:
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    for name in SHADOWS:
        where = folder.path if beside == "the config" else cwd
        (where / f"{name}.py").write_text(f"raise ImportError('{name} is hidden by ' + __file__)\n")
    config = folder.config({"use": "sample_stages:Work"}, {"use": "./sample_stages.py:Work"})
    code, out, err = cli("run", config, folder.file("a.bin"), cwd=cwd)
    assert (code, err) == (0, "")
    assert "1 request, 0 failed" in out


def test_a_stage_that_fails_in_the_middle_fails_its_request_alone(
    cli: Callable[..., Any], folder: Any, tmp_path: Path
) -> None:
    good = folder.files(8)
    bad = folder.file("bad.bin", b"poison")
    for how, kind in (("bad_input", "BadInput"), ("raise", "StageFailed")):
        config = folder.config({"with": {"how": how}, "batch": {"max_size": 4, "max_delay_ms": 20}}, {})
        code, out, _ = cli("run", config, *good[:3], bad, *good[3:], "--output", tmp_path / f"{how}.jsonl")
        assert code == 1
        records = [json.loads(line) for line in (tmp_path / f"{how}.jsonl").read_text().splitlines()]
        assert [r["input"] for r in records if r["status"] == "error"] == [str(bad)]
        assert records[3]["error"]["type"] == kind
        assert "on purpose" in records[3]["error"]["message"]
        assert f"{bad}  FAILED  {kind}: " in out
