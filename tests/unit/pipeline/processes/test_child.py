"""What a child is told at birth; and that a child whose collector is off still frees reference cycles in time."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.processes.child import collect_garbage

ROOT = Path(__file__).resolve().parents[4]


def test_a_boot_document_may_be_as_long_as_it_is() -> None:
    code = (
        "from pipeline.processes import child\n"
        "child.Plan.from_json = lambda raw: type('Plan', (), {'name': 'p', 'stages': ()})\n"
        "print(len(child.boot().extra['text']))"
    )
    text = "x" * (20 << 20)
    document = {
        "plan": {}, "run_dir": "/", "epoch": 0, "segments": [], "posts": [], "replica": 0, "extra": {"text": text},
        "title": "feeder", "own_terminal": True, "parent": os.getpid(),
    }  # fmt: skip
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(json.dumps(document).encode() + b"\n")
        child.stdin.flush()
        # Its life ends with that pipe: what it says must be read before.
        assert child.stdout.readline() == f"{len(text)}\n".encode()


@pytest.mark.usefixtures("collector_is_off")
def test_little_is_left_for_later() -> None:
    kept = [[] for _ in range(1000)]
    assert not collect_garbage()
    assert len(kept) == 1000


@pytest.mark.usefixtures("collector_is_off")
def test_what_goes_by_itself_does_not_count() -> None:
    for number in range(200_000):
        passing = [number]
    assert passing == [199_999]
    assert not collect_garbage()


@pytest.mark.usefixtures("collector_is_off")
def test_much_is_collected_once() -> None:
    for _ in range(60_000):
        circle: list[object] = []
        circle.append(circle)
    del circle
    assert collect_garbage()
    assert not collect_garbage()
    assert gc.collect() == 0
