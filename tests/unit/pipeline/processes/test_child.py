"""What a child is told at birth; and that a child whose collector is off still frees reference cycles in time."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.graph.plan import Plan, Post
from pipeline.processes.child import Boot, collect_garbage
from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import listen
from pipeline.wire.messages import Gone
from shm.segment import SegmentAddress
from tests.unit.pipeline.scheduler.graphs import make_plan

ROOT = Path(__file__).resolve().parents[4]

#: A child that says something to a process that does not listen yet, and ends.
SAYS_AND_ENDS = """
import sys
from pathlib import Path
from pipeline.processes.child import boot, freeze_heap
from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import connect
from pipeline.wire.messages import Gone
boot_ = boot()
outbox = connect(boot_.run_dir, SUPERVISOR)
freeze_heap()
outbox.send(Gone(7))
outbox.close(60_000)
print("said", flush=True)
"""


def document(**more: Any) -> Boot:
    given = {
        "plan": make_plan("chain", slots=3), "run_dir": Path("/run/\udcff"), "epoch": 3,
        "segments": (SegmentAddress("posix", "/a"), SegmentAddress("sysv", "7")), "title": "s0/1", "own_terminal": True,
        "posts": (Post(4, 0, 1), Post(5, 1, 2)), "replica": 1, "extra": {}, "parent": os.getpid(),
    }  # fmt: skip
    return Boot(**given | more)


def test_a_boot_document_comes_back_with_every_type() -> None:
    told = document(extra={"named": ["a\udcff.jpg", None], "limit": 1.5})
    read = Boot.read(told.line())
    assert read == told
    assert (type(read.plan), type(read.run_dir), type(read.posts[0]), type(read.segments[0])) == (
        Plan, type(told.run_dir), Post, SegmentAddress,
    )  # fmt: skip
    assert told.line().count(b"\n") == 1


def test_an_option_that_is_no_number_comes_back() -> None:
    assert math.isnan(Boot.read(document(extra={"threshold": math.nan}).line()).extra["threshold"])


def test_a_child_ends_after_what_it_has_said_last_has_come_though_its_heap_is_frozen(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAYS_AND_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(document(run_dir=tmp_path).line())
        child.stdin.flush()
        assert child.stdout.readline() == b"said\n"
        with contextlib.closing(listen(tmp_path, SUPERVISOR)) as inbox:
            assert inbox.receive(30_000) == [Gone(7)]
        assert child.wait() == 0


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ("epoch", "3", r"Expected `int`, got `str` - at `\$.epoch`"),
        ("posts", [[1, 2, "x"]], r"Expected `int`, got `str` - at `\$.posts\[0\]\[2\]`"),
        ("plan", {}, r"missing required field `name` - at `\$.plan`"),
    ],
)
def test_a_boot_document_that_does_not_fit_is_refused_with_its_path(place: str, value: object, why: str) -> None:
    raw = json.loads(document().line())
    raw[place] = value
    with pytest.raises(msgspec.ValidationError, match=why):
        Boot.read(json.dumps(raw).encode())


def test_a_boot_document_may_be_as_long_as_it_is() -> None:
    code = "from pipeline.processes import child\nprint(len(child.boot().extra['text']))"
    text = "x" * (20 << 20)
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(document(title="feeder", extra={"text": text}).line())
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
