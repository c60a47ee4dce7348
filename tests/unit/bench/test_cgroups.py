"""Shared memory is charged to the container that touches it first: the pipeline's, at its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cgroups import Group, NoGroups, pod_group

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
#: Lock files and pages that a library shares.
LITTLE = MIB


def can_make_groups() -> str:
    """Why control groups cannot be made here; "" if they can."""
    try:
        with pod_group() as pod:
            Group(pod.path / "one").remove()
    except NoGroups as error:
        return str(error)
    return ""


def test_the_segments_are_charged_to_the_pipelines_container_and_anew_after_its_restart() -> None:
    if why := can_make_groups():
        pytest.skip(f"no control groups can be made here: {why}")
    done = subprocess.run(
        [sys.executable, "-m", "bench.cgroups", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ready, used, killed, again, dropped, touched = json.loads(done.stdout)
    segments = 32 * MIB
    for row in (ready, used):
        assert segments <= row["pipeline"] < segments + LITTLE
        assert row["app"] < LITTLE
    # The group of the dead container is gone: the pod is charged, for as long as the app maps them.
    assert killed["pipeline"] == 0
    assert killed["app"] < LITTLE
    assert segments <= killed["pod"] < segments + LITTLE
    # Those that the next one makes are charged to it.
    assert segments <= again["pipeline"] < segments + LITTLE
    assert again["app"] < LITTLE
    assert 2 * segments <= again["pod"] < 2 * segments + LITTLE
    assert dropped["pod"] < segments + LITTLE
    # The control: what the app touches first is the app's.
    assert segments <= touched["app"] < segments + LITTLE
    for row in (ready, used, killed, again, dropped, touched):
        assert row["pod_current"] >= row["pod"]


def test_no_group_is_left_behind() -> None:
    try:
        with pod_group() as pod:
            group = Group(pod.path / "one")
            process = group.start(["sleep", "60"])
            while process.pid not in group.processes:
                time.sleep(0.005)
            assert group.current > 0
    except NoGroups as error:
        pytest.skip(f"no control groups can be made here: {error}")
    assert process.wait(10) == -9
    assert not pod.path.exists()


def test_a_folder_that_is_no_control_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoGroups, match=r"its groups do not count memory \(cgroup.subtree_control\)"):
        Group(tmp_path / "one")
    assert os.listdir(tmp_path) == []
    with pytest.raises(NoGroups, match="No such file or directory"):
        Group(tmp_path / "no" / "one")


def test_what_takes_more_than_the_limit_is_killed_and_counted() -> None:
    try:
        with pod_group() as pod:
            group = Group(pod.path / "one")
            group.limit(32 * MIB)
            process = group.start([sys.executable, "-c", f"bytearray(b'1') * {64 * MIB}"])
            assert process.wait(30) == -9
            assert group.kills == 1
    except NoGroups as error:
        pytest.skip(f"no control groups can be made here: {error}")
