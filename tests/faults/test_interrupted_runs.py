"""A run over files is killed with -9, or has no room for its answers: its records are whole, and it can go on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.faults.load import until


def whole_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("target", ["out.jsonl", pytest.param("out/", marks=pytest.mark.foreign)])
def test_a_run_that_is_killed_goes_on_where_it_was(
    folder: Any, cli: Callable[..., Any], started: Callable[..., subprocess.Popen[Any]], target: str
) -> None:
    gate = folder.path / "gate"
    config = folder.config({"with.seconds": 0.01, "with.gate": str(gate)})
    files = [folder.path / "in" / f"{number:03}.bin" for number in range(120)]
    files[0].parent.mkdir()
    for number, file in enumerate(files):
        file.write_bytes(b"%d" % number)
    files[-1].write_bytes(b"last")
    index = folder.path / (f"{target}index.jsonl" if target.endswith("/") else target)
    arguments = ("run", config, folder.path / "in", "--output", f"{folder.path}/{target}")
    run = started(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: index.exists() and index.read_bytes().count(b"\n") > 20)
    children = psutil.Process(run.pid).children()
    run.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(children, timeout=200)[1] == []
    run.wait()
    gate.touch()
    answered = len(whole_records(index))
    assert 20 < answered < 120
    # As after a crash of the whole machine: the last line is incomplete.
    with open(index, "ab") as file:
        file.write(b'{"input": "' + str(files[-1]).encode() + b'", "status": "ok')
    code, out, err = cli(*arguments, "--append")
    assert (code, err) == (0, "")
    assert f"{120 - answered} requests, 0 failed, {answered} answered before" in out
    records = whole_records(index)
    assert index.read_bytes().endswith(b"\n")
    assert Counter(record["input"] for record in records) == dict.fromkeys(map(str, files), 1)
    for record in records:
        expected = list(Path(record["input"]).read_bytes())
        data = record["outputs"]["data"]
        if target.endswith("/"):
            with np.load(index.parent / data["file"]) as arrays:
                data = arrays["data"].tolist()
        assert data == expected
    assert cli("shm", "gc").code == 0


def test_a_run_without_room_for_its_answers_ends_at_once_and_says_which(
    folder: Any, cli: Callable[..., Any]
) -> None:
    config = folder.config({"with.seconds": 0.001})
    (folder.path / "in").mkdir()
    for number in range(3000):
        (folder.path / "in" / f"{number:04}.bin").write_bytes(b"x")
    (folder.path / "full").symlink_to("/dev/full")
    code, out, err = cli("run", config, folder.path / "in", "-q", "--output", folder.path / "full")
    assert code == 1
    assert f"error: --output {folder.path}/full: No space left on device" in err
    assert "not sent" in out
