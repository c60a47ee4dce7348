"""The door of a run with shards: which one a new client is put into, and how the front leads there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from pipeline.wire.address import CLIENTS
from pipeline.wire.run_dir import find_run, living_runs
from pipeline.wire.run_folder import RunFolder
from pipeline.wire.shards import (
    ShardLinks,
    entered,
    fewest,
    front_of,
    is_front,
    is_shard,
    one_run,
    shard_name,
    shards_of,
)


class Fleet:
    """A front with ready shards, all of this process."""

    def __init__(self, stack: ExitStack, shards: int = 2) -> None:
        self.front = RunFolder("detect", is_front=True)
        self.dead: set[RunFolder] = set()
        stack.callback(self.end, self.front)
        self.front.mark_ready(True)
        self.links = ShardLinks(self.front.path)
        self.shards = [self.start(stack, number) for number in range(shards)]

    def start(self, stack: ExitStack, number: int) -> RunFolder:
        shard = RunFolder(shard_name("detect", number), self.front.path)
        stack.callback(self.end, shard)
        shard.link("front", self.front.path.name)
        shard.mark_ready(True)
        self.links.lead(number, shard.path.name)
        return shard

    def end(self, run: RunFolder) -> None:
        if run not in self.dead:
            self.dead.add(run)
            run.remove()

    def enter(self, clients: int = 1) -> list[Path]:
        """So many clients come one after the other, and stay."""
        entries = []
        for _ in range(clients):
            with entered(self.front.path) as folder:
                (folder / CLIENTS / f"{os.urandom(4).hex()}.lock").touch()
                entries.append(folder)
        return entries


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "runs"))
    with ExitStack() as stack:
        yield Fleet(stack)


@pytest.mark.parametrize(
    ("counts", "chance", "chosen"),
    [
        ([3, 1, 2], 0.99, 1),
        ([0, 0], 0.0, 0),
        ([0, 0], 0.99, 1),
        ([2, 1, 1], 0.0, 1),
        ([2, 1, 1], 0.99, 2),
        ([None, None], 0.6, 1),
        ([None, 0, 7], 0.0, 0),
        ([5], 0.5, 0),
    ],
)
def test_a_client_goes_where_the_fewest_are_and_of_several_such_by_chance(
    counts: list[int | None], chance: float, chosen: int
) -> None:
    assert fewest(counts, chance) == chosen


def test_clients_are_shared_out_evenly(fleet: Fleet) -> None:
    entries = fleet.enter(6)
    assert [entries.count(shard.path) for shard in fleet.shards] == [3, 3]


def test_a_run_without_shards_is_entered_itself(fleet: Fleet) -> None:
    shard = fleet.shards[0].path
    with entered(shard) as folder:
        assert folder == shard
    assert not is_front(shard)
    assert one_run(shard) == shard


def test_a_shard_that_is_not_ready_gets_no_client_while_another_one_is(fleet: Fleet) -> None:
    fleet.shards[0].mark_ready(False)
    assert set(fleet.enter(3)) == {fleet.shards[1].path}
    fleet.shards[1].mark_ready(False)
    # Then a client waits in one of them.
    assert set(fleet.enter(3)) == {fleet.shards[0].path}
    assert set(fleet.enter(2)) == {shard.path for shard in fleet.shards}


def test_a_dead_shard_gets_no_client_and_without_any_the_client_hears_so(fleet: Fleet) -> None:
    fleet.end(fleet.shards[0])
    assert shards_of(fleet.front.path) == [fleet.shards[1].path]
    assert set(fleet.enter(2)) == {fleet.shards[1].path}
    fleet.end(fleet.shards[1])
    with pytest.raises(Unavailable, match="no shard of detect-"), entered(fleet.front.path):
        pass


def test_a_shard_that_was_started_again_is_found_in_place_of_the_dead_one(fleet: Fleet, tmp_path: Path) -> None:
    fleet.end(fleet.shards[1])
    with ExitStack() as stack:
        new = fleet.start(stack, 1)
        fleet.enter(1)
        assert new.path in shards_of(fleet.front.path)
        assert len(list((fleet.front.path / "shards").iterdir())) == 2


def test_while_one_client_chooses_the_others_wait_but_not_for_one_that_was_stopped(fleet: Fleet) -> None:
    door = os.open(fleet.front.path / "shards", os.O_RDONLY)
    try:
        with entered(fleet.front.path), pytest.raises(BlockingIOError):
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert fleet.enter(1)
    finally:
        os.close(door)


def test_the_name_of_a_pipeline_leads_to_its_front_and_that_of_a_shard_to_the_shard(fleet: Fleet) -> None:
    shard = fleet.shards[1].path
    assert find_run("detect") == find_run() == fleet.front.path
    assert find_run("detect.1") == find_run(shard.name) == shard
    assert [run.folder for run in living_runs()] == [fleet.front.path]
    assert len(living_runs(shards=True)) == 3
    assert is_shard(shard)
    assert front_of(shard) == fleet.front.path
    assert not is_shard(fleet.front.path)
    assert front_of(fleet.front.path) == fleet.front.path


def test_a_command_about_one_scheduler_asks_for_the_name_of_a_shard(fleet: Fleet) -> None:
    with pytest.raises(Unavailable, match=r"name it \(detect\.0-\d+ or detect\.1-\d+\)"):
        one_run(fleet.front.path)


def test_no_client_ever_finds_a_front_that_it_could_take_its_place_in() -> None:
    # Before the front has told it anything: the folder is found as soon as it has its name.
    front = RunFolder("detect", is_front=True)
    try:
        for _ in range(2):
            assert find_run("detect") == front.path
            with pytest.raises(Unavailable, match="no shard of detect-"), entered(front.path):
                pytest.fail("a client has its place in a folder without a scheduler")
            shutil.rmtree(front.path)
            assert "the folder" in front.renew()
        # Of a run that has ended it is the root's, and leads to the run that serves.
        front.mark_ended()
        shutil.rmtree(front.path)
        front.renew()
        assert not is_front(front.path)
    finally:
        front.remove()


def test_links_that_were_removed_are_made_anew(fleet: Fleet) -> None:
    (fleet.front.path / "shards/0").unlink()
    (fleet.front.path / "shards/1").unlink()
    (fleet.front.path / "shards").rmdir()
    fleet.links.renew()
    assert shards_of(fleet.front.path) == [shard.path for shard in fleet.shards]
    fleet.links.remove()
    assert not is_front(fleet.front.path)
    fleet.links.renew()
    assert shards_of(fleet.front.path) == []
