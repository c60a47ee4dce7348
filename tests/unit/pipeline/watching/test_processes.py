"""What the processes of a run use."""

from __future__ import annotations

import os
import subprocess
import sys

from pipeline.interpreter import python_command
from pipeline.watching.processes import uses_of

TITLED = "import setproctitle; setproctitle.setproctitle('pipeline[detect] resize/0'); print(flush=True); input()"


def test_the_supervisor_comes_first_and_children_have_the_titles_that_the_status_has() -> None:
    child = subprocess.Popen([sys.executable, "-c", TITLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        first, *others = uses_of(os.getpid())
        assert (first.title, first.pid) == ("supervisor", os.getpid())
        assert first.cpu_s > 0
        assert first.memory > 1 << 20
        assert [use.title for use in others if use.pid == child.pid] == ["resize/0"]
        assert [use.pid for use in uses_of(os.getpid(), [child.pid]) if use.pid == child.pid] == []
        # A new version's supervisor is a child of the root, and named among those that stand apart.
        assert uses_of(child.pid, [child.pid])[0].title == "supervisor"
    finally:
        child.communicate(b"\n")


def test_a_process_that_has_ended_uses_nothing() -> None:
    ended = subprocess.Popen([*python_command("this"), "x"], stdout=subprocess.DEVNULL)
    ended.wait()
    assert uses_of(ended.pid) == []
