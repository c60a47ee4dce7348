"""`pipeline reload`: a new version takes over a running pipeline; no request is lost, and none is answered twice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.client import Client
from pipeline.client.reloading import reload
from pipeline.errors import Unavailable
from pipeline.interpreter import python_command
from pipeline.testing import running
from pipeline.wire.run_dir import runs, serving
from shm import leftovers
from shm.owner import Alive
from tests.faults.callers import AsyncCaller, Caller, SharedCaller
from tests.faults.load import until
from tests.faults.versions import InBackground, Versions, stamp

# -- under load -------------------------------------------------------------------------------------


# Ten take a minute.
@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.foreign)])
def test_reloads_under_load_lose_no_request_and_each_is_answered_by_one_version(
    versions: Versions, callers: Callable[..., Caller], times: int
) -> None:
    with running(versions.write(0, canary=True)) as pipeline:
        by_name, by_path = "stamps", pipeline.run_dir
        load = [
            callers(by_name, 1), callers(by_path, 1), callers(by_name, 64), callers(by_path, 6),
            callers(by_name, 16, AsyncCaller), callers(by_path, 48, AsyncCaller), callers(by_name, 64, SharedCaller),
        ]  # fmt: skip
        for version in range(1, times + 1):
            versions.write(version, canary=True)
            reload("stamps" if version % 2 else pipeline.run_dir)
            for caller in load:
                # Each of them has found the new version before the next one comes.
                before = caller.sent
                until(lambda: caller.error or caller.sent > before + 32)  # noqa: B023
        for caller in load:
            found = caller.finish()
            assert found == sorted(found), "an earlier version has answered a later request"
            assert set(found) == set(range(times + 1))
        assert [folder.parent for folder in runs("stamps")] == [pipeline.run_dir.parent]


def test_the_command_shows_each_step_and_clients_of_the_first_run_s_folder_find_the_last_one(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        command = [*python_command("pipeline.__main__"), "reload", "stamps"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [line.partition(":")[0] for line in shown.stdout.splitlines()] == [
            "starting beside the old version", "started", "ready", "took over", "drained",
        ]  # fmt: skip
        with pipeline.client() as client:
            assert stamp(client) == 1
        refused = subprocess.run([*command, "--set", "nonsense=1"], capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "nonsense" in refused.stderr
        assert "serves on" in refused.stderr
        gone = subprocess.run([*command[:-1], "nothing"], capture_output=True, text=True, check=False)
        assert (gone.returncode, "no pipeline 'nothing'" in gone.stderr) == (1, True)


@pytest.mark.foreign
def test_what_the_first_start_was_told_by_set_holds_for_the_next_ones(versions: Versions) -> None:
    with running(versions.write(0), ["stamp.replicas=1", "stamp.batch.max_size=3"]) as pipeline:
        reload("stamps", assignments=["stamp.replicas=2"])
        (stage,) = pipeline.status()["stages"]
        assert stage["replicas"] == 2
        reload("stamps")
        (stage,) = pipeline.status()["stages"]
        assert stage["replicas"] == 2
        reload("stamps", versions.config)
        (stage,) = pipeline.status()["stages"]
        # A config of its own stands for itself: the file's value.
        assert stage["replicas"] == 2


# -- what clients have at the old version -----------------------------------------------------------


@pytest.mark.foreign
def test_held_results_and_drafts_stay_good_and_idle_clients_go_on_after_several_reloads(versions: Versions) -> None:
    with running(versions.write(0, drain_s=1.0)) as pipeline:
        by_name, by_path = Client.connect("stamps"), pipeline.client()
        with by_name, by_path:
            result = by_path.submit(number=[5]).get()
            kept = result["stamp"]
            assert stamp(by_name) == 0
            for version in (1, 2):
                versions.write(version, drain_s=1.0)
                reload("stamps")
            assert list(kept) == [5, 0]
            assert stamp(by_name) == 2
            assert stamp(by_path) == 2
            assert list(kept) == [5, 0]


def test_a_client_that_fills_a_slot_sends_it_to_the_old_version_and_then_goes_to_the_new_one(versions: Versions) -> None:
    with running(versions.write(0, drain_s=60.0)) as pipeline, pipeline.client() as client:
        draft = client.draft(number=(1,))
        draft.inputs["number"][:] = 3
        versions.write(1, drain_s=60.0)
        going = InBackground("stamps")
        until(lambda: "took over" in going.steps)
        # It has a slot of the old version in its hand: so that waits.
        assert list(client.submit(number=[4]).get()["stamp"]) == [4, 0]
        assert list(draft.submit().get()["stamp"]) == [3, 0]
        assert "drained" not in going.steps
        assert stamp(client) == 1
        assert isinstance(going.ended(), Path)


def test_the_drain_does_not_wait_for_ever_for_a_client_that_keeps_a_slot(versions: Versions) -> None:
    with running(versions.write(0, drain_s=0.5)) as pipeline, pipeline.client() as client:
        draft = client.draft(number=(1,))
        versions.write(1)
        reload("stamps")
        with pytest.raises(Unavailable):
            draft.submit().get()
        assert stamp(client) == 1


def is_sent_on(client: Client, run_dir: Path) -> bool:
    """Whether a client has heard that another version serves: the reload's own word may be faster."""
    client.pump()
    connection = client._exchange.access.connection
    return bool(client._exchange.session.successor) or connection is None or connection.run_dir != run_dir


def test_requests_under_way_are_answered_by_the_old_version(versions: Versions) -> None:
    with running(versions.write(0, seconds=1.0, replicas=1, drain_s=60.0)) as pipeline, pipeline.client() as client:
        versions.write(1)
        going = InBackground("stamps")
        until(lambda: "started" in going.steps)
        futures = [client.submit(number=[number]) for number in range(12)]
        until(lambda: going.steps[-1:] in (["took over"], ["drained"]))
        until(lambda: is_sent_on(client, pipeline.run_dir))
        later = client.submit(number=[99])
        answered = [future.get(200)["stamp"] for future in futures]
        assert [number for number, _ in answered] == list(range(12))
        assert later.get(200)["stamp"][1] == 1
        assert isinstance(going.ended(), Path)


@pytest.mark.foreign
def test_clients_see_the_interface_of_the_new_version(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline, pipeline.client() as client:
        assert client.interface.outputs[0].name == "stamp"
        versions.write(1, outputs={"seal": "stamp.stamp"})
        reload("stamps")
        assert list(client.submit(number=[1]).get()["seal"]) == [1, 1]
        assert client.interface.outputs[0].name == "seal"


# -- what others see --------------------------------------------------------------------------------


@pytest.mark.foreign
def test_status_shows_both_and_gc_touches_neither(versions: Versions) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1, setup=versions.until_told)
        going = InBackground("stamps")
        until(lambda: len(runs("stamps")) == 2)
        command = python_command("pipeline.__main__")
        shown = subprocess.run([*command, "status", "stamps"], capture_output=True, text=True, check=False)
        assert shown.returncode == 0
        assert shown.stdout.startswith("stamps: ready")
        assert "a new version starts in" in shown.stderr
        subprocess.run([*command, "shm", "gc"], capture_output=True, check=True)
        names = [folder.name for folder in runs("stamps")]
        found = [segment for segment in leftovers.scan() if segment.run in names]
        assert {segment.run for segment in found} == set(names)
        assert all(isinstance(segment.state, Alive) for segment in found)
        versions.tell()
        assert isinstance(going.ended(), Path)
        assert serving(pipeline.run_dir) == going.result
        (only,) = runs("stamps")
        assert only == going.result
        with pipeline.client() as client:
            assert stamp(client) == 1


def test_the_root_that_is_only_a_parent_has_no_segment_and_no_child_but_the_version_that_serves(
    versions: Versions,
) -> None:
    with running(versions.write(0)) as pipeline:
        versions.write(1)
        folder = reload("stamps")
        root = psutil.Process(pipeline.pid)
        assert [child.pid for child in root.children()] == [int(folder.name.rpartition("-")[2])]
        names = (folder.name, pipeline.run_dir.name)
        until(lambda: {segment.run for segment in leftovers.scan() if segment.run in names} == {folder.name})
        assert not any("/dev/shm" in mapped.path for mapped in root.memory_maps())
