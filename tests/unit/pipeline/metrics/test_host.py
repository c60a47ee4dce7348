"""What the machine has left."""

from __future__ import annotations

from pathlib import Path

from pipeline.metrics.host import host_usage


def test_room_is_that_of_the_file_system() -> None:
    usage = host_usage("/")
    assert usage.shm_bytes is not None
    assert usage.shm_free_bytes is not None
    assert 0 <= usage.shm_free_bytes <= usage.shm_bytes


def test_a_machine_without_that_folder_says_nothing_of_it(tmp_path: Path) -> None:
    usage = host_usage(str(tmp_path / "none"))
    assert (usage.shm_bytes, usage.shm_free_bytes) == (None, None)
