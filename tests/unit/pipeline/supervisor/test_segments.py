"""A segment that cannot be attached is damaged, unless it is this process that lacks something."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StartError
from pipeline.graph.plan import Edge, Plan, PoolPlan
from pipeline.supervisor import segments as module
from pipeline.supervisor.segments import damage_of, make_segments, unlink_segments
from shm import segments
from shm.errors import SegmentCorrupt
from shm.owner import OwnerLock
from shm.segment import Segment, SegmentSpec


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    with OwnerLock.acquire(tmp_path / "lock") as lock:
        made = segments.create("posix", SegmentSpec(run="demo-1", pool="p", slot_bytes=64, slots=2, lock_path=lock.path))
        yield made
        made.close()
        made.unlink()


def test_a_whole_segment_has_no_damage_and_one_that_was_removed_has(segment: Segment) -> None:
    assert damage_of(segment) is None
    segment.unlink()
    assert "not in /dev/shm" in str(damage_of(segment))


def test_a_truncated_segment_is_damaged(segment: Segment) -> None:
    os.truncate(f"/dev/shm{segment.address.name}", 100)
    assert damage_of(segment) is not None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_this_process_lacks_is_no_damage(segment: Segment, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def bare(_: object) -> Segment:
        raise OSError(number, os.strerror(number))

    def wrapped(_: object) -> Segment:
        try:
            return bare(_)
        except OSError as error:
            raise SegmentCorrupt("cannot be read") from error

    for attach in (bare, wrapped):
        monkeypatch.setattr(module.segments, "attach", attach)
        assert damage_of(segment) is None


def test_another_error_of_the_system_is_damage(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    def attach(_: object) -> Segment:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.segments, "attach", attach)
    assert "Input/output error" in str(damage_of(segment))


def test_segments_are_unlinked_even_if_they_are_gone_already(segment: Segment) -> None:
    segment.unlink()
    unlink_segments([segment])
    assert "not in /dev/shm" in str(damage_of(segment))


def test_a_process_that_has_used_up_its_descriptors_sees_no_damage(segment: Segment) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        found = damage_of(segment)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is None


def test_what_the_system_refuses_a_segment_is_an_error_of_the_start_and_what_was_made_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = (PoolPlan("a", 64, 2), PoolPlan("b", 64, 2))
    plan = Plan("demo", "demo.yaml", ".", (), (), (), pools)
    real, made = segments.create, []

    def create(kind: str, spec: SegmentSpec) -> Segment:
        if spec.pool == "b":
            raise OSError(errno.EMFILE, "Too many open files")
        return real(kind, spec)

    monkeypatch.setattr(module.segments, "create", create)
    with OwnerLock.acquire(tmp_path / "owner.lock"), pytest.raises(StartError, match="pool b: Too many open files"):
        list(make_segments(plan, tmp_path, made, recorder=False))
    assert [segment.layout.pool for segment in made] == ["a"]
    unlink_segments(made)


# -- files of a folder, and their group -------------------------------------------------------------

POOLS = (PoolPlan("ingress/0", 64, 2), PoolPlan("a", 64, 2), PoolPlan("b", 64, 2))


def plan_of(folder: Path, group: int | None) -> Plan:
    outputs = (("y", Edge("b", "y")),)
    return Plan(
        "demo", "demo.yaml", ".", (), (), outputs, POOLS, segment_kind="file", segment_dir=str(folder), group=group
    )


def made_of(plan: Plan, run_dir: Path) -> Iterator[list[Segment]]:
    made: list[Segment] = []
    with OwnerLock.acquire(run_dir / "owner.lock"):
        try:
            for _ in make_segments(plan, run_dir, made, recorder=False):
                # A process that is killed now leaves headers behind that no other user has written.
                assert {os.stat(segment.address.name).st_mode & 0o777 for segment in made} == {0o600}
            yield made
        finally:
            unlink_segments(made)


def test_clients_of_the_group_write_requests_and_read_answers_once_all_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "shm"
    for group, modes in ((None, [0o600] * 3), (os.getgid(), [0o660, 0o600, 0o640])):
        for made in made_of(plan_of(folder, group), tmp_path):
            assert [os.stat(segment.address.name).st_mode & 0o777 for segment in made] == modes
        folder_mode = folder.stat().st_mode & 0o777
        assert folder_mode == (0o700 if group is None else 0o710)
        assert list(folder.iterdir()) == []
        folder.rmdir()


def test_a_folder_that_is_closed_to_the_group_says_how_to_open_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(StartError, match=rf"segments.dir: .* is closed to group {os.getgid()}, .* chmod g\+x"):
        list(make_segments(plan_of(tmp_path, os.getgid()), tmp_path, [], recorder=False))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"segments.dir: cannot make .*/file/shm: Not a directory; mount a volume there"):
        list(make_segments(plan_of(tmp_path / "file" / "shm", None), tmp_path, [], recorder=False))
