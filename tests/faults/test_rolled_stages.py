"""`pipeline reload NAME --stage STAGE`: the workers of one stage are replaced in the run that serves; nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.titles import in_role
from pipeline.client.reloading import reload
from pipeline.errors import ReloadFailed, Unavailable
from pipeline.interpreter import python_command
from pipeline.testing import RunningPipeline, running
from pipeline.wire.run_dir import remove_dead_runs, runs
from tests.faults.callers import AsyncCaller, Caller, SharedCaller
from tests.faults.load import until
from tests.faults.versions import InBackground, Versions, stamp

ChildOf = Callable[[int, str], psutil.Process | None]


def goes_on(caller: Caller, count: int = 32) -> None:
    """Some more requests of it are sent, or it has failed."""
    before = caller.sent
    until(lambda: caller.error or caller.sent > before + count)


def workers(pipeline: RunningPipeline) -> list[int]:
    return sorted(pipeline.worker_pids("stamp"))


# -- under load -------------------------------------------------------------------------------------


# Five take a minute.
@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.foreign)])
@pytest.mark.timeout(300)
def test_workers_that_are_replaced_under_load_lose_no_request_and_then_all_answers_are_of_the_new_version(
    versions: Versions, callers: Callable[..., Caller], times: int
) -> None:
    with running(versions.write(0, canary=True)) as pipeline, pipeline.client() as client:
        load = [callers("stamps", 1), callers("stamps", 64), callers("stamps", 16, AsyncCaller), callers("stamps", 64, SharedCaller)]
        replaced = [workers(pipeline)]
        scheduler = client.status()["epoch"]
        for version in range(1, times + 1):
            versions.write(version, canary=True)
            assert reload("stamps", stage="stamp") == pipeline.run_dir
            assert [stamp(client) for _ in range(8)] == [version] * 8
            replaced.append(workers(pipeline))
            for caller in load:
                goes_on(caller)
        assert len({pid for pids in replaced for pid in pids}) == 2 * (times + 1)
        for caller in load:
            assert set(caller.finish()) == set(range(times + 1))
        status = client.status()
        assert (status["epoch"], status["counts"]["retired_workers"]) == (scheduler, 2 * times)
        assert status["counts"].get("worker_deaths", 0) == 0


@pytest.mark.timeout(120)
def test_the_command_shows_each_worker_and_what_else_has_changed(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline, pipeline.client() as client:
        versions.write(1, drain_s=7.0)
        command = [*python_command("pipeline.__main__"), "reload", "stamps", "--stage"]
        shown = subprocess.run([*command, "stamp"], capture_output=True, text=True, check=True)
        assert [re.sub(r", as .* has them now$", "", line) for line in shown.stdout.splitlines()] == [
            "stamp: 2 workers are replaced, one after the other",
            "changed too, and not taken over, since stamp alone is reloaded: drain_s",
            "stamp/0 starts beside the old one", "stamp/0 is ready", "stamp/0 is of the new version",
            "stamp/1 starts beside the old one", "stamp/1 is ready", "stamp/1 is of the new version",
            "done: every worker of stamp is of the new version",
        ]  # fmt: skip
        assert stamp(client) == 1
        wrong = subprocess.run([*command, "stamps"], capture_output=True, text=True, check=False)
        assert (wrong.returncode, "there is no stage stamps: expected one of stamp" in wrong.stderr) == (1, True)


@pytest.mark.timeout(120)
def test_it_reaches_the_version_that_serves_and_the_next_version_has_its_options_too(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline, pipeline.client() as client:
        versions.write(1)
        folder = reload("stamps")
        versions.write(2)
        assert reload("stamps", stage="stamp", assignments=["stamp.with.seconds=0.2"]) == folder
        assert stamp(client) == 2
        with pytest.raises(ReloadFailed, match="no_such"):
            reload("stamps", stage="stamp", assignments=["stamp.with.no_such=1"])
        reload("stamps")
        with pytest.raises(ReloadFailed, match="replicas or their places changed"):
            reload("stamps", stage="stamp", assignments=["stamp.replicas=1"])
        assert "new version has taken over" not in pipeline.log()
        assert pipeline.log().count("has taken over") == 2


# -- what does not start ------------------------------------------------------------------------------


@pytest.mark.foreign
@pytest.mark.timeout(300)
def test_a_worker_that_does_not_start_leaves_the_old_ones_untouched(
    versions: Versions, callers: Callable[..., Caller]
) -> None:
    with running(versions.write(0, canary=True)) as pipeline:
        before = workers(pipeline)
        caller = callers("stamps", 4)
        until(lambda: caller.versions or caller.error)
        for change, why in (
            ({"setup": "        raise ValueError('no such weights')"}, "stamp/0 could not start: .*no such weights"),
            ({"setup": "        import os; os._exit(7)"}, "exit code 7"),
            ({"process": "        raise ValueError('no stamp')"}, "the canary failed at the new stamp/0(.|\n)*no stamp"),
            ({"process": "        import os; os._exit(9)"}, "stamp/0 (died|.*exit code)"),
            ({"max_size": 4}, "batch(.|\n)* changed, which others rely on: reload the whole pipeline: pipeline reload stamps"),
        ):
            versions.write(1, **{"canary": True, **change})
            with pytest.raises(ReloadFailed, match=why):
                reload("stamps", stage="stamp")
            assert workers(pipeline) == before
        versions.write(1, canary=True, setup="        time.sleep(3600)")
        with pytest.raises(ReloadFailed, match="the new stamp/0 was not ready within 30 s"):
            reload("stamps", stage="stamp", limit_s=30.0)
        assert workers(pipeline) == before
        # No request of a client has reached a worker of the wrong versions.
        assert set(caller.finish()) == {0}
        versions.write(2, canary=True)
        reload("stamps", stage="stamp")
        with pipeline.client() as client:
            assert stamp(client) == 2


@pytest.mark.timeout(120)
def test_if_the_second_worker_does_not_start_the_first_goes_back_to_the_old_version(
    versions: Versions, callers: Callable[..., Caller], tmp_path: Path
) -> None:
    with running(versions.write(0, file="old")) as pipeline, pipeline.client() as client:
        caller = callers("stamps", 16)
        until(lambda: caller.versions or caller.error)
        versions.write(1, file="new", setup=f"        open({str(tmp_path / 'once')!r}, 'x')")
        with pytest.raises(ReloadFailed, match=r"stamp/1 could not start: .*once"):
            reload("stamps", stage="stamp")
        assert [stamp(client) for _ in range(8)] == [0] * 8
        goes_on(caller)
        assert set(caller.finish()) == {0, 1}


@pytest.mark.foreign
def test_a_second_reload_is_refused_while_one_is_under_way(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup=versions.until_told)
        going = InBackground("stamps", stage="stamp")
        until(lambda: "started" in going.steps)
        for stage in ("stamp", None):
            with pytest.raises(ReloadFailed, match="another reload is under way, of stage stamp"):
                reload(pipeline.run_dir, stage=stage)
        versions.tell()
        assert going.ended() == pipeline.run_dir


# -- deaths -------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_new_worker_is_killed_while_it_starts_and_one_that_was_let_in_starts_again_with_what_is_new(
    versions: Versions, callers: Callable[..., Caller]
) -> None:
    with running(versions.write(0, file="old")) as pipeline, pipeline.client() as client:
        caller, before = callers("stamps", 16), workers(pipeline)
        until(lambda: caller.versions or caller.error)
        versions.write(1, file="new", setup=versions.until_told)
        going = InBackground("stamps", stage="stamp")
        # It has its title only once it has read what it must do.
        until(lambda: len(in_role(pipeline.pid, "stamp/0")) == 2)
        newest = max(in_role(pipeline.pid, "stamp/0"), key=lambda child: child.create_time())
        newest.kill()
        failure = going.ended()
        assert isinstance(failure, ReloadFailed)
        assert "killed by signal 9" in str(failure)
        assert workers(pipeline) == before
        versions.tell()
        reload("stamps", stage="stamp")
        for pid in workers(pipeline):
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(workers(pipeline)) == 2)
        assert [stamp(client) for _ in range(8)] == [1] * 8
        goes_on(caller)
        assert set(caller.finish()) == {0, 1}


@pytest.mark.timeout(120)
def test_an_old_worker_is_killed_while_it_finishes_what_it_has_and_nothing_is_lost(versions: Versions) -> None:
    with running(versions.write(0, seconds=2.0, replicas=1, drain_s=60.0)) as pipeline, pipeline.client() as client:
        (old,) = workers(pipeline)
        versions.write(1, replicas=1, drain_s=60.0)
        going = InBackground("stamps", stage="stamp")
        until(lambda: "started" in going.steps)
        futures = [client.submit(number=[number]) for number in range(12)]
        until(lambda: "ready" in going.steps)
        os.kill(old, signal.SIGKILL)
        answers = [tuple(future.get(60)["stamp"]) for future in futures]
        assert [number for number, _ in answers] == list(range(12))
        assert answers[-1][1] == 1
        assert going.ended() == pipeline.run_dir
        assert len(workers(pipeline)) == 1


@pytest.mark.timeout(120)
def test_an_old_worker_that_does_not_finish_is_killed_after_drain_s_and_what_it_has_runs_again(versions: Versions) -> None:
    with running(versions.write(0, file="old", seconds=3600.0, replicas=1, drain_s=1.0)) as pipeline, pipeline.client() as client:
        future = client.submit(number=[3])
        until(lambda: client.status()["inside"] == 1)
        versions.write(1, file="new", replicas=1, drain_s=1.0)
        reload("stamps", stage="stamp")
        assert list(future.get(60)["stamp"]) == [3, 1]


@pytest.mark.foreign
def test_the_scheduler_is_killed_meanwhile_and_the_old_workers_stay(versions: Versions, child_of: ChildOf) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup=versions.until_told)
        going = InBackground("stamps", stage="stamp")
        until(lambda: "started" in going.steps)
        scheduler = child_of(pipeline.pid, "scheduler")
        assert scheduler is not None
        scheduler.kill()
        failure = going.ended()
        assert isinstance(failure, ReloadFailed)
        assert "the scheduler died meanwhile" in str(failure)
        versions.tell()
        until(lambda: len(workers(pipeline)) == 2)
        reload("stamps", stage="stamp")
        with pipeline.client() as client:
            assert stamp(client) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_supervisor_is_told_to_stop_or_killed_meanwhile_and_nothing_is_left(
    versions: Versions, number: signal.Signals
) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup="        time.sleep(3600)")
        going = InBackground("stamps", stage="stamp")
        until(lambda: "started" in going.steps)
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        os.kill(pipeline.pid, number)
        assert pipeline.wait() == (0 if number == signal.SIGTERM else -number)
        assert isinstance(going.ended(), (ReloadFailed, Unavailable))
        assert psutil.wait_procs(processes, timeout=30)[1] == []
        remove_dead_runs()
        assert runs("stamps") == []


