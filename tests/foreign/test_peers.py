"""`make bench-peers` as a user runs it, for a moment: with peers that need no environment of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


def run(folder: Path, peers: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.peers", "--peers", peers, "--rounds", "1", "--seconds", "0.1"]
    return subprocess.run(
        [*command, "--out", str(folder)], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=580, check=False,
    )  # fmt: skip


def test_a_run_leaves_a_table_json_with_the_machine_and_a_plot(tmp_path: Path) -> None:
    done = run(tmp_path, "pipeline,zmq-2,queue,iceoryx2")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "peers.json").read_text())
    assert report["left_out"] == {}
    assert report["machine"]["CPU"]
    names = ("pipeline", "zmq-2", "queue", "iceoryx2")
    found = [(cell["subject"], cell["window"]) for cell in report["cells"]]
    assert found == [(name, window) for name in names for window in (1, 16, 64)]
    for cell in report["cells"]:
        (repeat,) = cell["repeats"]
        assert repeat["requests"] > 0
        assert min(repeat["groups_us"].values()) > 0
    assert (tmp_path / "peers.md").read_text() == done.stdout
    assert ElementTree.parse(tmp_path / "peers.svg").getroot().tag.endswith("svg")
    assert not list(Path("/dev/shm").glob("bench_*"))


def test_a_peer_whose_environment_cannot_be_made_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "make").write_text("#!/bin/sh\necho 'no such package' >&2\nexit 2\n")
    (programs / "make").chmod(0o755)
    done = run(tmp_path, "zmq-2,torch", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    reason = "`make build/peers/torch/.there` failed: no such package"
    assert json.loads((tmp_path / "peers.json").read_text())["left_out"] == {"torch": reason}
    assert f"torch is left out: {reason}" in done.stderr
    assert "| bare ZeroMQ, two relays |" in done.stdout
