"""The folder of a run is cleaned while it serves: connected processes do not notice, and new clients find it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.client import Client
from pipeline.testing import running
from pipeline.wire.address import SCHEDULER
from pipeline.wire.run_dir import LOCK, READY, find_run, lock_path
from shm import leftovers
from shm.owner import Alive, probe
from tests.faults.load import until


def ask(client: Client) -> bytes:
    with client.submit(data=b"x", timeout_s=30).get(200) as result:
        return bytes(result["data"].tobytes())


def is_whole(run_dir: Path, workers: int) -> bool:
    sockets = {"scheduler.sock", "supervisor.sock"}
    return (
        isinstance(probe(run_dir / LOCK), Alive)
        and isinstance(probe(lock_path(run_dir, SCHEDULER)), Alive)
        and (run_dir / READY).exists()
        and (run_dir / "clients").is_dir()
        and sockets <= set(os.listdir(run_dir))
        and len(list(run_dir.glob("w*.sock"))) == workers
    )


@pytest.mark.parametrize(
    "gone", [".", *[pytest.param(each, marks=pytest.mark.foreign) for each in ("*.lock", "*.sock", "clients", READY, "clients/*")]]
)
def test_what_is_removed_is_made_again_and_connected_processes_do_not_notice(folder: Any, gone: str) -> None:
    config = folder.config({"replicas": 2}, {})
    with running(config) as pipeline, pipeline.client() as client:
        run_dir = pipeline.run_dir
        assert ask(client) == b"x"
        for path in [run_dir] if gone == "." else list(run_dir.glob(gone)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # The slots of this client must not be given to others: it lives, although its lock file is gone.
        until(lambda: is_whole(run_dir, 3))
        time.sleep(0.5)
        assert ask(client) == b"x"
        with Client.connect("faulty") as another:
            assert [ask(another) for _ in range(10)] == [b"x"] * 10
            assert another.status()["counts"].get("client_deaths", 0) == 0
        # A worker that is started again finds all other processes.
        pid = pipeline.worker_pids("s0")[0]
        os.kill(pid, 9)
        until(lambda: pid not in pipeline.worker_pids("s0") and len(pipeline.worker_pids("s0")) == 2)
        assert [ask(client) for _ in range(10)] == [b"x"] * 10
        assert pipeline.stop() == 0
        assert not run_dir.exists()


def test_the_death_of_a_client_is_noticed_although_its_lock_was_removed(folder: Any) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.client import Client\n"
        "client = Client.connect(Path(sys.argv[1]), name='mortal')\nclient.draft(data=(1,))\nprint('here', flush=True)\ninput()"
    )
    with running(folder.config({})) as pipeline:
        process = subprocess.Popen(
            [sys.executable, "-c", program, pipeline.run_dir],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        for lock in (pipeline.run_dir / "clients").glob("*.lock"):
            lock.unlink()
        time.sleep(1.0)
        assert [client["name"] for client in pipeline.status()["clients"]] == ["mortal", "status"]
        process.kill()
        process.communicate()
        until(lambda: [client["name"] for client in pipeline.status()["clients"]] == ["status"])


def test_a_folder_that_cannot_be_made_again_is_reported_once_and_the_run_still_ends_well(
    folder: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(os.environ["TRTLAB_RUN_DIR"]) / "gone"  # as /run/user/UID is after the last logout
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(home))
    with running(folder.config({"replicas": 2}, {})) as pipeline, pipeline.client() as client:
        assert ask(client) == b"x"
        shutil.rmtree(home)
        home.touch()
        until(lambda: "cannot be made anew" in pipeline.log())
        time.sleep(1.5)
        assert ask(client) == b"x"
        assert pipeline.stop() == 0
        assert pipeline.log().count("cannot be made anew") == 1
        assert "Traceback" not in pipeline.log()
    home.unlink()
    assert [found for found in leftovers.scan() if found.run == pipeline.run_dir.name] == []


def test_another_start_and_gc_leave_a_run_alone_after_its_locks_were_removed(
    folder: Any, cli: Callable[..., Any], started: Callable[..., Any]
) -> None:
    with running(folder.config({})) as pipeline, pipeline.client() as client:
        os.kill(pipeline.pid, 19)  # so that it cannot make them again meanwhile
        for lock in pipeline.run_dir.glob("*.lock"):
            lock.unlink()
        assert "0 segments removed" in cli("shm", "gc").out
        (folder.path / "a.bin").write_bytes(b"x")
        assert cli("run", folder.config({}, name="another"), folder.path / "a.bin").code == 0
        assert pipeline.run_dir.is_dir()
        os.kill(pipeline.pid, 18)
        until(lambda: is_whole(pipeline.run_dir, 1))
        assert ask(client) == b"x"


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None or os.getuid() != 0, reason="needs systemd-tmpfiles, as root")
def test_systemd_tmpfiles_leaves_the_folder_alone(folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["TRTLAB_RUN_DIR"]) / "aged"
    monkeypatch.setenv("TRTLAB_RUN_DIR", str(home))
    with running(folder.config({})) as pipeline, pipeline.client() as client:
        (home / "unlocked").mkdir()
        (home / "unlocked/file").touch()
        time.sleep(1.2)
        rules = tmp_path / "rules.conf"
        rules.write_text(f"d {home} 0700 root root 1s\n")
        subprocess.run(["systemd-tmpfiles", "--clean", rules], check=True)
        assert os.listdir(home) == [pipeline.run_dir.name]
        assert is_whole(pipeline.run_dir, 1)
        assert ask(client) == b"x"
    home.rmdir()


def test_by_name_a_client_reaches_the_run_that_serves_while_the_next_one_starts(
    folder: Any, started: Callable[..., Any]
) -> None:
    mark, go = folder.path / "reached", folder.path / "go"
    (folder.path / "late.py").write_text(
        "import time\nfrom pathlib import Path\nfrom deadly_stages import Work\nclass Late(Work):\n"
        "    def setup(self, context):\n"
        f"        Path({str(mark)!r}).touch()\n"
        f"        while not Path({str(go)!r}).exists():\n            time.sleep(0.02)\n"
    )
    with running(folder.config({})) as old:
        process = started(
            "run", folder.config({"use": "./late.py:Late", "with": {}}), "--serve", stdout=subprocess.PIPE, text=True
        )
        until(mark.exists)
        assert find_run("faulty") == old.run_dir
        with Client.connect("faulty", timeout_s=10) as client:
            assert ask(client) == b"x"
        go.touch()
        new = Path(process.stdout.readline().strip().partition(" in ")[2])
        assert find_run("faulty") == find_run() == new
        assert old.stop() == 0
        with Client.connect("faulty", timeout_s=10) as client:
            assert ask(client) == b"x"
        process.terminate()
        assert process.wait(200) == 0


def first_answer(run: Path) -> bytes:
    with Client.connect(run) as client:
        return ask(client)


def test_a_client_that_comes_while_the_door_to_the_shards_is_gone_is_let_in_once_it_is_back(folder: Any) -> None:
    with running(folder.config({}, shards=2)) as pipeline:
        front = psutil.Process(pipeline.pid)
        front.suspend()
        try:
            shutil.rmtree(pipeline.run_dir / "shards")
            with ThreadPoolExecutor(1) as pool:
                coming = pool.submit(first_answer, pipeline.run_dir)
                until(lambda: any((pipeline.run_dir / "clients").iterdir()))
                front.resume()
                assert coming.result(200) == b"x"
        finally:
            front.resume()
        assert pipeline.stop() == 0
