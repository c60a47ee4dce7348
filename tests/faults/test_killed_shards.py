"""A pipeline of two shards: a scheduler, a shard's supervisor or the front is killed, signalled, or replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.titles import in_role, one_in_role
from pipeline.client import Client
from pipeline.client.aio import AsyncClient
from pipeline.client.reloading import reload
from pipeline.client.status import ask_status
from pipeline.errors import ReloadFailed, Unavailable
from pipeline.testing import RunningPipeline, running
from pipeline.wire.run_dir import STOPPING, runs
from pipeline.wire.shards import shards_of
from shm import leftovers
from tests.faults.callers import Caller
from tests.faults.load import Load, until
from tests.faults.versions import Versions, stamp


def shard_of(pipeline: RunningPipeline, number: int) -> psutil.Process | None:
    """The supervisor of a shard."""
    return one_in_role(pipeline.pid, f"shard {number}")


def home_of(client: Client) -> str:
    """The name of the run that a client is in, without its number."""
    connection = client._exchange.access.connection
    return "" if connection is None else connection.run_dir.name.partition("-")[0]


def echo(client: Client, data: bytes = b"x") -> None:
    with client.submit(data=data).get(200) as result:
        assert result["data"].tobytes() == data


def answered(client: Client) -> bool:
    try:
        echo(client)
    except Unavailable:
        return False
    return True


def clients_of_both(pipeline: RunningPipeline) -> list[Client]:
    """A client of each shard, by number: two that come one after the other are put apart."""
    found = sorted((Client.connect(pipeline.run_dir) for _ in range(2)), key=home_of)
    assert [home_of(client) for client in found] == ["faulty.0", "faulty.1"]
    return found


def gone(pipeline: RunningPipeline, processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=200)[1] == []
    until(lambda: not pipeline.run_dir.exists())
    nothing_is_left(pipeline, processes)


def nothing_is_left(pipeline: RunningPipeline, processes: list[psutil.Process]) -> None:
    names = {f"faulty.{shard}-{process.pid}" for shard in (0, 1) for process in processes}
    assert not [found for found in leftovers.scan() if found.run in names]
    assert not list(pipeline.run_dir.parent.glob("faulty*"))


def test_only_the_clients_of_a_shard_hear_of_the_death_of_its_scheduler(
    folder: Any, child_of: Callable[[int, str], psutil.Process | None]
) -> None:
    with running(folder.config({}, shards=2)) as pipeline:
        first, second = clients_of_both(pipeline)
        with first, second:
            shard = shard_of(pipeline, 0)
            assert shard is not None
            scheduler = child_of(shard.pid, "scheduler")
            assert scheduler is not None
            loads = [Load(first), Load(second)]
            loads[0].kill(scheduler)
            while loads[0].resent == 0 or loads[1].answered < 200:
                for load in loads:
                    load.step()
            for load in loads:
                while load.answered < load.sent:
                    load.step(new=False)
            assert loads[1].resent == 0
        assert shard.is_running()
        assert pipeline.stop() == 0


def test_the_supervisor_of_a_shard_is_killed_and_its_clients_go_on_in_the_other_one(folder: Any) -> None:
    with running(folder.config({}, shards=2)) as pipeline:
        first, second = clients_of_both(pipeline)
        with first, second:
            shard = shard_of(pipeline, 0)
            assert shard is not None
            before = [run.name for run in shards_of(pipeline.run_dir)]
            processes = shard.children(recursive=True)
            loads = [Load(first), Load(second)]
            for load in loads:
                while load.answered < 50:
                    load.step()
            shard.kill()
            while loads[0].answered < 200 or loads[1].answered < 200:
                for load in loads:
                    load.step()
            for load in loads:
                while load.answered < load.sent:
                    load.step(new=False)
            assert loads[1].resent == 0
            assert psutil.wait_procs(processes, timeout=200)[1] == []
            # It is started again, and takes clients.
            until(lambda: len(shards_of(pipeline.run_dir)) == 2)
            until(lambda: all((run / "ready").exists() for run in shards_of(pipeline.run_dir)))
            after = [run.name for run in shards_of(pipeline.run_dir)]
            assert after[0] != before[0]
            assert after[1] == before[1]
            # Of the dead one nothing is left.
            until(lambda: not (pipeline.run_dir.parent / before[0]).exists())
            assert before[0] not in {found.run for found in leftovers.scan()}
            with Client.connect(pipeline.run_dir) as new:
                echo(new)
        assert pipeline.stop() == 0


def test_every_process_of_every_shard_ends_with_the_front_and_gc_removes_what_is_left(
    folder: Any, cli: Callable[..., Any]
) -> None:
    with running(folder.config({"with.deadly": True}, shards=2)) as pipeline, pipeline.client() as client:
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        assert len(processes) == 6
        client.submit(data=b"hold")
        until(lambda: client.status()["inside"] == 1)
        os.kill(pipeline.pid, signal.SIGKILL)
        assert psutil.wait_procs(processes, timeout=200)[1] == []
        assert pipeline.wait() == -signal.SIGKILL
        assert cli("shm", "gc").code == 0
        nothing_is_left(pipeline, processes)


def test_a_shard_that_is_killed_again_and_again_ends_the_run_with_exit_code_1(folder: Any) -> None:
    with running(folder.config({}, shards=2)) as pipeline:
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        # Not so many processes: what a shard had just forked has its title for a moment, and may outlive it.
        while "shards died 6 times within 60 s" not in pipeline.log():
            with suppress(psutil.NoSuchProcess):
                for process in in_role(pipeline.pid, "shard 1"):
                    process.kill()
            time.sleep(0.01)
        assert pipeline.wait(200) == 1
        gone(pipeline, processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_front_drains_every_shard(folder: Any, number: signal.Signals) -> None:
    with running(folder.config({"with.seconds": 0.3}, shards=2)) as pipeline:
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        first, second = clients_of_both(pipeline)
        with first, second:
            futures = [client.submit(data=b"x") for client in (first, second)]
            until(lambda: all(client.status()["inside"] for client in (first, second)))
            os.kill(pipeline.pid, number)
            for future in futures:
                with future.get(200) as result:
                    assert result["data"].tobytes() == b"x"
        assert pipeline.wait(200) == 0
        gone(pipeline, processes)


def test_a_signal_to_every_process_of_the_tree_is_one_and_a_second_one_stops_at_once(folder: Any) -> None:
    with running(folder.config({"with.seconds": 0.3}, shards=2)) as pipeline, pipeline.client() as client:
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        future = client.submit(data=b"x")
        until(lambda: client.status()["inside"])
        # As systemd does it.
        for process in [*processes, psutil.Process(pipeline.pid)]:
            with suppress(psutil.NoSuchProcess):  # those that it was sent to first may have ended it
                process.terminate()
        future.get(200).release()
        assert pipeline.wait(200) == 0
        gone(pipeline, processes)
    with running(folder.config({"with.deadly": True}, shards=2)) as pipeline, pipeline.client() as client:
        processes = psutil.Process(pipeline.pid).children(recursive=True)
        client.submit(data=b"sleep")
        until(lambda: client.status()["inside"])
        os.kill(pipeline.pid, signal.SIGTERM)
        # `pipeline ps` tells it by that.
        until((pipeline.run_dir / STOPPING).exists)
        time.sleep(0.3)
        os.kill(pipeline.pid, signal.SIGTERM)
        assert pipeline.wait(200) == 1
        gone(pipeline, processes)


def test_if_one_shard_cannot_start_none_is_left_and_the_reason_is_told(folder: Any, cli: Callable[..., Any]) -> None:
    starts = folder.path / "starts"
    # Each start of a worker is counted, and the second one fails.
    config = folder.config({"with.starts": str(starts)}, shards=2)
    found = cli("run", str(config), "--serve")
    assert found.code == 3
    assert "could not start" in found.err
    assert "shard" in found.err
    assert runs("faulty") == []


def counted(shard: Path) -> dict[str, int]:
    """The reloads of which a shard tells, by outcome."""
    reloads = ask_status(shard).reloads
    return {} if reloads is None else {outcome: count for outcome, count in reloads.counts.items() if count}


def test_a_reload_under_load_replaces_every_shard_and_loses_no_request(
    versions: Versions, callers: Callable[..., Caller]
) -> None:
    with running(versions.write(0, shards=2)) as pipeline:
        found = [callers(pipeline.run_dir, 4) for _ in range(3)]
        until(lambda: all(caller.versions or caller.error for caller in found))
        # The number of shards may be another one in the new version, 1 too.
        for number, shards in ((1, 2), (2, 1), (3, 2)):
            versions.write(number, shards=shards)
            new = reload("stamps")
            assert len(shards_of(new)) == (0 if shards == 1 else shards)
            until(lambda number=number: all(number in caller.versions or caller.error for caller in found))  # type: ignore[misc]
        for caller in found:
            assert set(caller.finish()) >= {0, 3}
        # Every shard of the version that serves tells of all three.
        for shard in shards_of(new):
            until(lambda shard=shard: counted(shard) == {"succeeded": 3})  # type: ignore[misc]
        with pipeline.client() as client:
            assert stamp(client) == 3
        assert pipeline.stop() == 0


def test_if_the_new_version_of_one_shard_does_not_start_all_old_ones_stay(versions: Versions) -> None:
    with running(versions.write(0, shards=2)) as pipeline:
        before = shards_of(pipeline.run_dir)
        # The second worker that starts finds what the first has left.
        path = str(versions.folder / "first")
        setup = f"        import os\n        os.close(os.open({path!r}, os.O_CREAT | os.O_EXCL))"
        versions.write(1, shards=2, setup=setup)
        with pytest.raises(ReloadFailed, match=r"shard \d could not start"):
            reload("stamps")
        assert Path(path).exists()
        assert shards_of(pipeline.run_dir) == before
        for shard in before:
            until(lambda shard=shard: counted(shard) == {"failed": 1})  # type: ignore[misc]
        with pytest.raises(ReloadFailed, match="reload the whole pipeline, without --stage"):
            reload("stamps", stage="stamp")
        clients = [pipeline.client() for _ in range(2)]
        for client in clients:
            with client:
                assert stamp(client) == 0
        assert pipeline.stop() == 0


def test_a_shard_that_is_started_again_is_of_the_version_that_serves(versions: Versions) -> None:
    config = versions.write(0, shards=2)
    with running(config) as pipeline:
        # The file says something else by now, of which no reload was asked.
        config.write_text("nothing that could be started")
        shard = shard_of(pipeline, 1)
        assert shard is not None
        shard.kill()
        until(lambda: shard_of(pipeline, 1) not in (None, shard))
        until(lambda: len(shards_of(pipeline.run_dir)) == 2)
        until(lambda: all((run / "ready").exists() for run in shards_of(pipeline.run_dir)))
        clients = [pipeline.client() for _ in range(2)]
        for client in clients:
            with client:
                assert stamp(client) == 0
        assert pipeline.stop() == 0


def test_a_client_that_is_meant_by_path_hears_of_the_end_of_the_whole_run_only(folder: Any) -> None:
    with running(folder.config({}, shards=2)) as pipeline, pipeline.client() as client:
        echo(client)
        shard = shard_of(pipeline, int(home_of(client)[-1]))
        assert shard is not None
        shard.kill()
        until(lambda: not answered(client))
        client.reconnect(100)
        echo(client)
        assert pipeline.stop() == 0
        with pytest.raises(Unavailable):
            client.reconnect(100)


async def is_let_in(run: Path) -> bool:
    async with await AsyncClient.connect(run):
        return True


@pytest.mark.parametrize("looped", [False, True])
def test_a_client_that_comes_while_every_shard_starts_waits_for_one(folder: Any, looped: bool) -> None:
    def come() -> bool:
        if looped:
            return asyncio.run(is_let_in(pipeline.run_dir))
        with Client.connect(pipeline.run_dir) as client:
            return answered(client)

    with running(folder.config({}, shards=2)) as pipeline:
        front = psutil.Process(pipeline.pid)
        # It starts none before the client has found none.
        front.suspend()
        try:
            for number in (0, 1):
                shard = shard_of(pipeline, number)
                assert shard is not None
                shard.kill()
            until(lambda: not shards_of(pipeline.run_dir))
            with ThreadPoolExecutor(1) as pool:
                coming = pool.submit(come)
                time.sleep(0.5)
                front.resume()
                assert coming.result(200)
        finally:
            front.resume()
        assert pipeline.stop() == 0
