"""A new version that does not start is given up, and the one that serves goes on as if nothing had been asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client.reloading import reload
from pipeline.errors import ReloadFailed
from pipeline.interpreter import python_command
from pipeline.testing import running
from pipeline.wire.run_dir import runs
from tests.faults.callers import Caller
from tests.faults.load import until
from tests.faults.versions import InBackground, Versions, killed, stamp, successor

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

#: What is different about a new version, and what is said of its end.
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"setup": "        raise ValueError('no such weights')"}, "no such weights"),
    ({"setup": "        import os; os._exit(7)"}, "exit code 7"),
    ({"process": "        raise ValueError('no stamp')", "canary": True}, "no stamp"),
    ({"stages": []}, "stages"),
    ({"name": "letters"}, "is called letters"),
]


def test_a_version_that_does_not_start_leaves_the_old_one_untouched(
    versions: Versions, callers: Callable[..., Caller]
) -> None:
    with running(versions.write(0)) as pipeline:
        workers = pipeline.worker_pids("stamp")
        caller = callers("stamps", 4)
        until(lambda: caller.versions or caller.error)
        # One after the other, while the old one serves.
        for change, why in CHANGES:
            versions.write(1, **change)
            with pytest.raises(ReloadFailed, match=why):
                reload("stamps")
            assert pipeline.worker_pids("stamp") == workers
            assert runs("stamps") == [pipeline.run_dir]
        assert set(caller.finish()) == {0}
        assert pipeline.log().count("the new version was given up") == len(CHANGES)
        versions.write(2)
        reload("stamps")
        with pipeline.client() as client:
            assert stamp(client) == 2


NO_ROOM = """
import sys
from pipeline.client.reloading import reload
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import ReloadFailed
from pipeline.testing import running
with running(sys.argv[1], ["ingress.slots=8"]) as pipeline, pipeline.client() as client:
    try:
        reload(pipeline.run_dir, assignments=["ingress.slots=65536"])
    except ReloadFailed as error:
        print(error)
    assert list(client.submit(number=[3]).get()["stamp"]) == [3, 0]
"""


def test_without_memory_for_both_the_old_version_serves_on(versions: Versions) -> None:
    private = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size="$0" tmpfs /dev/shm && exec "$@"', "3m"]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace of one's own here")
    command = [*private, sys.executable, "-c", NO_ROOM, str(versions.write(0))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "shared memory" in shown.stdout


def test_a_version_that_takes_too_long_is_given_up(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup="        time.sleep(3600)")
        with pytest.raises(ReloadFailed, match="not ready within 3 s"):
            reload("stamps", limit_s=3.0)
        assert runs("stamps") == [pipeline.run_dir]


def test_a_second_reload_is_refused_while_one_is_under_way(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup=versions.until_told)
        going = InBackground("stamps")
        until(lambda: going.steps)
        with pytest.raises(ReloadFailed, match="another reload is under way"):
            reload(pipeline.run_dir)
        versions.tell()
        assert isinstance(going.ended(), Path)


def test_a_run_over_files_is_not_reloaded(versions: Versions, tmp_path: Path) -> None:
    versions.write(0, seconds=0.5)
    lines = tmp_path / "numbers.jsonl"
    lines.write_text("".join(f'{{"number": [{number}]}}\n' for number in range(40)))
    command = [*python_command("pipeline.__main__"), "run", str(versions.config), str(lines), "--quiet"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: runs("stamps"))
    with pytest.raises(ReloadFailed, match="runs files"):
        reload("stamps")
    run.terminate()
    run.wait()


@pytest.mark.parametrize("role", ["scheduler", "stamp/0", "itself"])
def test_a_process_of_the_new_version_is_killed_while_it_starts(
    versions: Versions,
    callers: Callable[..., Caller],
    child_of: Callable[[int, str], psutil.Process | None],
    role: str,
) -> None:
    with running(versions.write(0)) as pipeline:
        caller = callers("stamps", 4)
        until(lambda: caller.versions or caller.error)
        versions.write(1, setup="        time.sleep(2)")
        going = InBackground("stamps")
        until(lambda: successor(pipeline))
        new = successor(pipeline)
        assert new is not None
        if role == "itself":
            until(lambda: "started" in going.steps)
            new.kill()
        else:
            killed(new, role, child_of)
        failure = going.ended()
        assert isinstance(failure, ReloadFailed)
        assert "killed by signal 9" in str(failure)
        assert set(caller.finish()) == {0}
        until(lambda: not psutil.pid_exists(new.pid))
        # Its lock may be held for a moment longer: a child that it was about to start has it until its exec.
        until(lambda: runs("stamps") == [pipeline.run_dir])
