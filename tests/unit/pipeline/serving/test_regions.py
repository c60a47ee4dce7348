"""Regions of system shared memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import KserveError
from pipeline.kserve.values import Region
from pipeline.serving.regions import Regions

NAME = f"/unit-{os.getpid()}_"


@pytest.fixture
def key() -> Iterator[str]:
    path = Path(f"/dev/shm{NAME}a")
    path.write_bytes(bytes(range(64)))
    yield NAME + "a"
    path.unlink()


@pytest.fixture
def regions() -> Iterator[Regions]:
    regions = Regions((NAME,))
    yield regions
    regions.unregister("")


def code_of(call: object, *arguments: object) -> str:
    with pytest.raises(KserveError) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.code


def test_a_part_is_read_from_its_offset_within_the_region(regions: Regions, key: str) -> None:
    regions.register("r", key, 16, 32)
    part = Region("r", 4, 8)
    with regions.acquired([part]) as held:
        assert bytes(held.read(part)) == bytes(range(20, 28))


def test_a_part_is_written_to_its_offset_and_nothing_beside_it(regions: Regions, key: str) -> None:
    regions.register("r", key, 16, 32)
    part = Region("r", 4, 8)
    with regions.acquired([part]) as held:
        held.write(part, memoryview(b"abc"))
    found = Path(f"/dev/shm{key}").read_bytes()
    assert found == bytes(range(20)) + b"abc" + bytes(range(23, 64))


def test_an_output_that_is_larger_than_its_part_is_refused(regions: Regions, key: str) -> None:
    regions.register("r", key, 0, 64)
    part = Region("r", 0, 2)
    with regions.acquired([part]) as held, pytest.raises(KserveError, match="room for 3 bytes"):
        held.write(part, memoryview(b"abc"))
    assert Path(f"/dev/shm{key}").read_bytes() == bytes(range(64))


def test_a_region_that_was_truncated_is_an_error_and_no_signal(regions: Regions, key: str) -> None:
    regions.register("r", key, 0, 64)
    part = Region("r", 0, 64)
    with regions.acquired([part]) as held:
        os.truncate(f"/dev/shm{key}", 10)
        with pytest.raises(KserveError, match="made shorter"):
            held.read(part)
        with pytest.raises(KserveError, match="made shorter"):
            held.write(part, memoryview(bytes(64)))
    # It has not grown again.
    assert os.path.getsize(f"/dev/shm{key}") == 10


def test_a_part_beyond_the_region_is_refused_although_the_object_goes_on(regions: Regions, key: str) -> None:
    regions.register("r", key, 0, 16)
    with pytest.raises(KserveError, match="Invalid offset"), regions.acquired([Region("r", 10, 7)]):
        pass


def test_an_unknown_region_is_not_found(regions: Regions) -> None:
    with pytest.raises(KserveError) as refused, regions.acquired([Region("r", 0, 1)]):
        pass
    assert refused.value.code == "NOT_FOUND"
    assert code_of(regions.status, "r") == "NOT_FOUND"


def test_a_name_is_registered_once(regions: Regions, key: str) -> None:
    regions.register("r", key, 0, 16)
    assert code_of(regions.register, "r", key, 0, 16) == "ALREADY_EXISTS"


@pytest.mark.parametrize("wrong", ["/other", "/", "///", "/../etc/passwd", "{}a/../../etc", "", "{}ä", "/trtlab.x"])
def test_only_keys_of_an_allowed_prefix_are_taken(regions: Regions, wrong: str) -> None:
    assert code_of(regions.register, "r", wrong.format(NAME), 0, 1) == "PERMISSION_DENIED"


def test_a_segment_of_ours_is_never_taken_even_if_the_prefix_allows_it() -> None:
    assert code_of(Regions(("/t",)).register, "r", "/trtlab.run.pool.0", 0, 1) == "PERMISSION_DENIED"


def test_without_prefixes_nothing_is_taken(key: str) -> None:
    assert code_of(Regions(()).register, "r", key, 0, 1) == "PERMISSION_DENIED"


def test_a_key_that_is_not_there_is_told_as_triton_does(regions: Regions) -> None:
    assert code_of(regions.register, "r", NAME + "none", 0, 1) == "INTERNAL"


def test_more_than_the_object_has_is_refused(regions: Regions, key: str) -> None:
    assert code_of(regions.register, "r", key, 60, 5) == "INVALID_ARGUMENT"
    assert code_of(regions.register, "r", key, 0, 0) == "INVALID_ARGUMENT"
    assert regions.status("") == []


def test_what_is_no_memory_is_refused(regions: Regions) -> None:
    path = f"/dev/shm{NAME}link"
    os.symlink("/etc/passwd", path)
    try:
        assert code_of(regions.register, "r", NAME + "link", 0, 1) == "INTERNAL"
    finally:
        os.unlink(path)
    os.mkfifo(path)
    try:
        assert code_of(regions.register, "r", NAME + "link", 0, 1) == "INTERNAL"
    finally:
        os.unlink(path)


def test_a_region_that_a_request_has_stays_open_until_that_is_over(regions: Regions, key: str) -> None:
    regions.register("r", key, 0, 64)
    part = Region("r", 0, 4)
    with regions.acquired([part]) as held:
        regions.unregister("r")
        assert regions.status("") == []
        assert bytes(held.read(part)) == bytes(range(4))
        regions.register("r", key, 8, 8)
    with regions.acquired([part]) as held:
        assert bytes(held.read(part)) == bytes(range(8, 12))


def test_unregistering_an_unknown_one_is_no_error(regions: Regions) -> None:
    regions.unregister("r")
