"""A kill for want of memory is told from one of long ago."""

from __future__ import annotations

from pathlib import Path

from pipeline.supervisor.memory_kills import MemoryKills, out_of_memory_kills


def test_a_kill_of_this_moment_is_seen_and_one_of_long_ago_is_not() -> None:
    kills = MemoryKills(3)
    assert not kills.struck(3)
    assert kills.struck(4)
    kills.note(4)
    # The count was taken between the kill and the moment when the death was seen.
    assert kills.struck(4)
    kills.note(4)
    assert not kills.struck(4)
    assert kills.struck(5)
    assert not kills.struck(0)  # it could not be read


def test_the_own_group_counts_before_the_whole_host(tmp_path: Path) -> None:
    assert out_of_memory_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("oom_kill_disable 1\noom_kill 17\nswpin 2\n")
    assert out_of_memory_kills(tmp_path) == 17
    group = tmp_path / "sys/fs/cgroup/memory"
    group.mkdir(parents=True)
    (group / "memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    assert out_of_memory_kills(tmp_path) == 2
