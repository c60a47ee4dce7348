"""An exception at any point at which a segment is made or attached, as a signal's handler raises it, leaves nothing."""

from __future__ import annotations

import dis
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import shm
from shm.segment import Segment, SegmentSpec
from shm.segments.file import FileSegment
from shm.segments.posix import PosixSegment

FOLDER = str(Path(shm.__file__).parent)


class Cut(BaseException):
    """What the handler raises."""


class Interruption:
    """Raises at the `point`-th point of the code of segments at which Python runs the handlers of signals.

    Those are where a function begins, and where a call has ended and its result has no name yet. (A profiler does not
    see the call of a class that is written in C.)
    """

    def __init__(self, point: int) -> None:
        self.left = point

    def __enter__(self) -> None:
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        self._count()
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        names = {each.offset: each.opname for each in dis.get_instructions(frame.f_code)}
        before = ""

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal before
            if event == "opcode":
                if before.startswith("CALL"):
                    self._count()
                before = names[frame.f_lasti]
            return step

        return step

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            sys.settrace(None)
            raise Cut


def interrupted(point: int, call: Callable[[], Segment]) -> Segment | None:
    """What a call returned; None if it was interrupted."""
    try:
        with Interruption(point):
            return call()
    except Cut:
        return None


def descriptors() -> dict[str, str]:
    """The files that this process has open."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        # The folder itself is open no more.
        with suppress(FileNotFoundError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="trtlab-files-", dir="/dev/shm") as made:
        yield Path(made)


@pytest.mark.parametrize("kind", [PosixSegment, FileSegment])
def test_wherever_the_making_of_a_segment_is_interrupted_neither_descriptor_nor_file_is_left(
    kind: type[Segment], folder: Path
) -> None:
    run, point, made = f"cut-{os.getpid()}", 0, None
    before = descriptors()
    while made is None:
        point += 1
        spec = SegmentSpec(run, "frames", 64, 2, folder=str(folder))
        made = interrupted(point, lambda spec=spec: kind.create(spec))  # type: ignore[misc]
        if made is None:
            assert descriptors() == before, f"point {point}"
            assert not list(folder.iterdir()), f"point {point}"
            assert not [name for name in os.listdir("/dev/shm") if run in name], f"point {point}"
    assert point > 20
    made.close()
    made.unlink()


@pytest.mark.parametrize("kind", [PosixSegment, FileSegment])
@pytest.mark.parametrize("writable", [True, False])
def test_wherever_the_attaching_of_a_segment_is_interrupted_no_descriptor_is_left(
    kind: type[Segment], writable: bool, folder: Path
) -> None:
    point, attached = 0, None
    with kind.create(SegmentSpec(f"cut-{os.getpid()}", "frames", 64, 2, folder=str(folder))) as segment:
        before = descriptors()
        while attached is None:
            point += 1
            attached = interrupted(point, lambda: kind.attach(segment.address.name, writable=writable))
            assert attached is not None or descriptors() == before, f"point {point}"
        assert point > 10
        attached.close()
