"""Which run is stopped, and what is told of its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.stop import end_of, own_words
from pipeline.wire.run_dir import FRONT, LOCK
from pipeline.wire.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_words_of_the_supervisor_are_told_apart_from_those_of_stages() -> None:
    time = "2026-11-30T08:18:56.734Z"
    lines = [f"{time} note: finishing", f"{time} resize/0 | warning: mine", f"{time} warning: not finished", "broken"]
    assert own_words(lines) == ["note: finishing", "warning: not finished"]


def test_a_run_that_has_not_said_how_it_ended_was_killed() -> None:
    assert end_of(["note: finishing", "info: ended with exit code 1"]) == 1
    assert end_of(["note: finishing"]) is None
    assert end_of([]) is None


def test_a_name_of_several_runs_stops_none_of_them(
    cli_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their supervisor is this process.
    monkeypatch.setattr("pipeline.cli.stop.owner_of", lambda folder: None)
    one, other = RunFolder("detect"), RunFolder("detect")
    try:
        code, out, err = cli_here("stop", "detect")
        assert (code, out) == (3, "")
        for folder in (one, other):
            assert folder.path.name in err
        assert "name one by its id" in err
    finally:
        one.remove()
        other.remove()


def test_a_shard_is_told_of_with_its_front_and_a_name_of_several_shards_with_all_fronts(
    cli_here: Callable[..., Any],
) -> None:
    with ExitStack() as stack:

        def made(name: str, front: RunFolder | None = None) -> RunFolder:
            found = RunFolder(name, None if front is None else front.path, is_front=front is None)
            stack.callback(found.remove)
            if front is not None:
                found.link(FRONT, front.path.name)
            return found

        one, other = made("detect"), made("detect")
        shards = [made("detect.0", one), made("detect.0", other)]
        for shard, front in zip(shards, (one, other)):
            assert cli_here("stop", shard.path.name) == (3, "", (
                f"error: {shard.path.name} is a shard, which is started again when it ends: stop {front.path.name}\n"
            ))  # fmt: skip
        fronts = " or ".join(sorted([one.path.name, other.path.name]))
        assert cli_here("stop", "detect.0") == (3, "", (
            f"error: detect.0 is a shard of 2 runs, which is started again when it ends: stop {fronts}\n"
        ))  # fmt: skip


def test_a_process_that_is_not_proven_to_be_the_supervisor_is_not_signalled(cli_here: Callable[..., Any]) -> None:
    folder = RunFolder("detect")
    try:
        # As in a pod: the lock is held, and the pid in it is that of a process here which has nothing to do with it.
        (folder.path / LOCK).write_text("pid 1 start 1 strong\n")
        code, _, err = cli_here("stop", "detect")
        assert (code, "cannot be proven which process its supervisor is" in err) == (3, True)
    finally:
        folder.remove()


def test_a_run_that_is_not_there_is_not_stopped(cli_here: Callable[..., Any], home: Path) -> None:
    assert cli_here("stop", "detect")[0] == 3
    (home / "detect-1").mkdir(parents=True)
    code, _, err = cli_here("stop", home / "detect-1")
    assert (code, err) == (3, f"error: no run is alive in {home}/detect-1\n")
