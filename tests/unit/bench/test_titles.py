from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from bench.titles import by_role, in_role

TITLED = "import setproctitle, sys; setproctitle.setproctitle(sys.argv[1]); print(flush=True); input()"


@pytest.fixture
def started() -> Iterator[dict[str, subprocess.Popen[str]]]:
    titles = ["pipeline[demo] infer/0", "pipeline[demo] shard 1", "pipeline gateway/0", "python infer/0"]
    found = {
        title: subprocess.Popen(
            [sys.executable, "-c", TITLED, title], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for title in titles
    }
    for process in found.values():
        assert process.stdout is not None
        process.stdout.readline()
    yield found
    for process in found.values():
        process.kill()
        process.communicate()


def pids(role: str) -> list[int]:
    return [child.pid for child in in_role(psutil.Process().pid, role)]


def test_a_process_is_found_by_its_whole_role_if_its_title_is_one_of_ours(
    started: dict[str, subprocess.Popen[str]],
) -> None:
    assert pids("infer/0") == [started["pipeline[demo] infer/0"].pid]
    assert pids("shard 1") == [started["pipeline[demo] shard 1"].pid]
    assert pids("gateway/0") == [started["pipeline gateway/0"].pid]
    assert pids("shard") == pids("infer") == []


def test_one_that_is_dead_is_not_there_and_neither_is_one_that_ends_while_it_is_looked_at(
    started: dict[str, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started["pipeline[demo] infer/0"]
    process.kill()
    # A zombie: it is dead, and was not waited for.
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        threading.Event().wait(0.01)
    assert pids("infer/0") == []

    def gone(child: psutil.Process) -> list[str]:
        raise psutil.NoSuchProcess(child.pid)

    monkeypatch.setattr(psutil.Process, "cmdline", gone)
    assert list(by_role(psutil.Process().pid)) == []


def test_children_of_children_are_found_if_they_are_asked_for() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TITLED!r}, 'pipeline[demo] infer/0'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert pids("infer/0") == []
        assert [child.ppid() for child in in_role(psutil.Process().pid, "infer/0", recursive=True)] == [parent.pid]
        parent.communicate("\n")
