"""Each fault of the runbook is caused in a real run, and shown by the metric and the line of the log that it names."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from bench.chaos.garbage import throw
from pipeline.client.client import Client
from pipeline.client.reloading import reload
from pipeline.errors import DeadlineExceeded, Overloaded, ReloadFailed, StageCrashed, Unavailable
from pipeline.testing import RunningPipeline, running
from tests.conftest import COMMAND, ROOT
from tests.faults.conftest import Folder
from tests.faults.load import until
from tests.faults.runbook import ROWS, Watched
from tests.faults.test_full_memory import PRIVATE, private
from tests.faults.test_gateway import config_of_doors, kill_gateway
from tests.faults.versions import InBackground, Versions
from tests.integration.cameras import JpegServer, clip, config_of
from tests.integration.gateways import serving
from tests.integration.recorded import recorded
from tests.integration.test_sources import cameras

__all__ = ["private"]

ChildOf = Callable[[int, str], psutil.Process | None]
Started = Callable[..., "subprocess.Popen[Any]"]


def metrics_of(log: Callable[[], str]) -> str:
    until(lambda: "metrics on http" in log())
    (url,) = set(re.findall(r"metrics on (http\S+)", log()))
    return str(url)


def watched(log: Callable[[], str]) -> Watched:
    return Watched(metrics_of(log), log)


def ask(client: Client, deed: bytes, **more: Any) -> None:
    with client.submit(data=np.frombuffer(deed, np.uint8), **more).get(200):
        pass


def kill(child_of: ChildOf, pipeline: RunningPipeline, role: str) -> None:
    until(lambda: child_of(pipeline.pid, role))
    child = child_of(pipeline.pid, role)
    assert child is not None
    child.kill()


DOOMED = """
import os, sys
import numpy as np
from pipeline.client import Client
client = Client.connect(sys.argv[1], name="doomed")
client.submit(data=np.zeros(1, np.uint8)).get()
os.kill(os.getpid(), 9)
"""


class Faults:
    """What can be done to a run of three stages: `first` obeys deadly requests, `slow` takes 0.2 s, `last` starts once."""

    def __init__(self, folder: Folder, pipeline: RunningPipeline, client: Client, child_of: ChildOf) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.client = client
        self.child_of = child_of

    def worker(self) -> None:
        os.kill(self.pipeline.worker_pids("slow")[0], signal.SIGKILL)

    def hang(self) -> None:
        with pytest.raises(StageCrashed):
            ask(self.client, b"sleep")

    def poison(self) -> None:
        with pytest.raises(StageCrashed):
            ask(self.client, b"segfault")

    def overload(self) -> None:
        waiting = [self.client.submit(data=np.zeros(1, np.uint8)) for _ in range(20)]
        refused = 0
        for future in waiting:
            try:
                with future.get(200):
                    pass
            except Overloaded:
                refused += 1
        assert refused

    def deadline(self) -> None:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                ask(self.client, b"late", deadline_ms=20)

    def client_dies(self) -> None:
        subprocess.run([sys.executable, "-c", DOOMED, str(self.pipeline.run_dir)], check=False)

    def garbage(self) -> None:
        throw(self.pipeline.run_dir, random.Random(1))

    def scheduler(self) -> None:
        kill(self.child_of, self.pipeline, "scheduler")
        until(self.is_answered)

    def is_answered(self) -> bool:
        try:
            ask(self.client, b"again")
        except Unavailable:
            self.client.reconnect(60)
            return False
        return True


QUICK: list[tuple[str, Callable[[Faults], object], tuple[str, ...]]] = [
    ("A worker dies", Faults.worker, ()),
    ("A stage hangs", Faults.hang, ("A worker dies", "A request kills its worker")),
    ("A request kills its worker", Faults.poison, ("A worker dies",)),
    ("Requests are refused", Faults.overload, ()),
    ("Requests miss their deadline", Faults.deadline, ()),
    ("A client dies", Faults.client_dies, ()),
    ("Garbage comes in on a socket", Faults.garbage, ()),
    ("The scheduler dies", Faults.scheduler, ()),
]


def test_faults_of_a_run_are_shown_by_the_metric_and_the_line_of_their_row_and_by_no_other(
    folder: Folder, child_of: ChildOf
) -> None:
    starts = folder.path / "starts"
    config = folder.config(
        {"name": "first", "with.deadly": True, "timeout_ms": 300, "restart": {"max": 100}},
        {"name": "slow", "with.seconds": 0.1, "replicas": 2, "restart": {"max": 100}, "batch": {"max_size": 1}},
        {"name": "last", "with.starts": str(starts), "with.good_starts": 1, "restart": {"max": 0}},
        metrics={"port": 0}, queue={"max": 1},
    )  # fmt: skip
    order = random.sample(QUICK, len(QUICK))
    print("in this order:", ", ".join(name for name, _, _ in order))
    with running(config) as pipeline:
        seen = watched(pipeline.log)
        with pipeline.client("app") as client:
            faults = Faults(folder, pipeline, client, child_of)
            for name, fault, also in order:
                seen.shows(name, lambda fault=fault: fault(faults), also)  # type: ignore[misc]
                # What is started again must be there before the next one.
                until(lambda: all(len(stage["workers"]) == stage["replicas"] for stage in client.status()["stages"]))
                starts.unlink(missing_ok=True)
            starts.write_text("started\n")
            seen.shows("A stage is given up", lambda: kill(child_of, pipeline, "last/0"), ("A worker dies",))
        seen.shows("The run has ended", lambda: pipeline.stop())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own, which can be filled."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


#: Fills /dev/shm, which is this process's own, and has the scheduler killed meanwhile.
FULL = """
import os, sys
from pathlib import Path
import psutil
from pipeline.testing import running
from tests.faults.test_runbook import watched

filler = Path("/dev/shm/filler")
with running(sys.argv[1]) as pipeline:
    def fill():
        free = os.statvfs("/dev/shm")
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        children = psutil.Process(pipeline.pid).children()
        (scheduler,) = [child for child in children if "scheduler" in " ".join(child.cmdline())]
        scheduler.kill()

    watched(pipeline.log).shows("No room for segments", fill, ("The scheduler dies", "A worker dies"))
    filler.unlink()
    pipeline.stop()
print("shown")
"""


@pytest.mark.foreign
def test_a_client_that_keeps_its_slots_is_named(folder: Folder) -> None:
    with running(folder.config({}, metrics={"port": 0})) as pipeline, pipeline.client("hoarder") as client:
        seen, kept = watched(pipeline.log), []

        def keep() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    kept.append(client.draft(data=(8,), timeout_s=0.5))

        seen.shows("A client keeps its slots", keep)
        assert "client hoarder (" in pipeline.log()


@pytest.mark.foreign
def test_a_stage_that_answers_nothing_is_named(folder: Folder) -> None:
    np.save(folder.path / "canary.npy", np.zeros(4, np.uint8))
    config = folder.config({}, metrics={"port": 0}, canary={"input": "canary.npy", "every_s": 0.5})
    with running(config) as pipeline:
        seen = watched(pipeline.log)
        until(lambda: pipeline.status()["ready"])
        worker = psutil.Process(pipeline.worker_pids("s0")[0])
        seen.shows("A stage answers nothing", worker.suspend, ("Requests miss their deadline",))
        worker.resume()
        until(lambda: "ready again" in pipeline.log())


@pytest.mark.foreign
def test_a_log_on_a_disk_that_is_full_is_told_elsewhere_and_counted(
    folder: Folder, disk: Path, started: Started
) -> None:
    errors, log = folder.path / "stderr", disk / "run.log"
    with errors.open("w") as stderr:
        run = started(
            "run", folder.config({"restart": {"max": 100}}, metrics={"port": 0}), "--serve", "--access-log",
            "--log-file", log, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline().startswith("serving faulty")
    seen = Watched(metrics_of(log.read_text), errors.read_text)

    def fill() -> None:
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(filler, bytes(512))
        os.close(filler)
        with Client.connect("faulty") as client:
            until(lambda: ask(client, b"x", name="y" * 200) or errors.read_text())

    seen.shows("The log cannot be written", fill)
    kept = subprocess.run([*COMMAND, "logs", "faulty"], capture_output=True, text=True, check=True).stdout
    assert ROWS["The log cannot be written"].is_said(kept)
    (disk / "filler").unlink()
    with Client.connect("faulty") as client:
        until(lambda: ask(client, b"x") or " lines are missing here" in log.read_text())
    run.terminate()
    assert run.wait(200) == 0


@pytest.mark.foreign
def test_a_dev_shm_that_is_full_is_seen_before_it_hurts(folder: Folder, private: list[str]) -> None:
    config = folder.config({}, metrics={"port": 0})
    tried = subprocess.run(
        [*PRIVATE, "4m", sys.executable, "-c", FULL, str(config)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert tried.stdout == "shown\n", tried.stderr


@pytest.mark.foreign
def test_a_new_version_that_does_not_start_is_told(versions: Versions) -> None:
    with running(versions.write(0, metrics={"port": 0})) as pipeline:
        seen = watched(pipeline.log)
        versions.write(1, setup="        raise ValueError('no such weights')", metrics={"port": 0})

        def fail() -> None:
            with pytest.raises(ReloadFailed, match="no such weights"):
                reload("stamps")

        seen.shows("A new version does not start", fail)


def reload_fails(outcome: str) -> None:
    """A reload of the stage fails so, and `pipeline status` says it."""
    with pytest.raises(ReloadFailed) as failed:
        reload("stamps", stage="stamp")
    assert failed.value.outcome == outcome
    shown = subprocess.run([*COMMAND, "status", "stamps"], capture_output=True, text=True, check=True).stdout
    assert str(failed.value).splitlines()[0] in shown


@pytest.mark.foreign
def test_a_stage_s_reload_that_goes_back_or_cannot_or_takes_long_is_told(versions: Versions) -> None:
    metrics = {"metrics": {"port": 0}}
    with running(versions.write(0, file="old", **metrics)) as pipeline:
        seen = watched(pipeline.log)
        once = f"        open({str(versions.folder / 'once')!r}, 'x')"
        versions.write(1, file="new", setup=once, **metrics)
        seen.shows("The reload of a stage goes back", lambda: reload_fails("rolled_back"))

        # The old version's file is overwritten by one that does not start.
        (versions.folder / "once").unlink()
        versions.write(2, file="old", setup="        raise ValueError('overwritten')", **metrics)
        versions.write(3, file="newer", setup=once, **metrics)
        seen.shows(
            "A stage has workers of two versions", lambda: reload_fails("mixed"), ("The reload of a stage goes back",)
        )

        versions.write(4, file="slow", setup=versions.until_told, **metrics)
        going: list[InBackground] = []
        seen.shows("A reload takes long", lambda: going.append(InBackground("stamps", stage="stamp")))
        versions.tell()
        assert going[0].ended() == pipeline.run_dir
        until(lambda: seen.metrics()["trtlab_reload_under_way", frozenset({("pipeline", "stamps")})] == 0)


@pytest.mark.foreign
def test_a_camera_that_is_away_is_named_with_the_reason(tmp_path: Path) -> None:
    sources = [{"name": "yard", "url": "synthetic:?fps=20&size=64x48"}, {"name": "door"}]
    with contextlib.ExitStack() as camera:
        sources[1]["url"] = f"http://127.0.0.1:{camera.enter_context(JpegServer()).port}/"
        with running(config_of(tmp_path, sources, metrics={"port": 0})) as pipeline:
            seen = watched(pipeline.log)
            until(lambda: cameras(pipeline)["door"]["state"] == "connected" and cameras(pipeline)["yard"]["answered"])
            seen.shows("A camera is away", camera.close)


@pytest.mark.foreign
def test_a_folder_of_recordings_that_is_full_is_told_and_counted(tmp_path: Path, disk: Path) -> None:
    clip(tmp_path / "door.mp4", 500)
    source = {"name": "door", "url": "door.mp4", "drop": "oldest", "loop": True}
    told = {"every": 20, "lasts": 5}
    config = recorded(tmp_path, [source], told=told, before_s=0, after_s=0, dir=str(disk / "clips"))
    document = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**document, "metrics": {"port": 0}}))
    filler = disk / "filler"
    with running(config) as pipeline:
        seen = watched(pipeline.log)
        until(lambda: cameras(pipeline)["door"]["clips"])

        def fill() -> None:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))

        seen.shows("A recording cannot be written", fill)
        filler.unlink()
        for path in (disk / "clips").iterdir():
            path.unlink(missing_ok=True)
        clips = cameras(pipeline)["door"]["clips"]
        until(lambda: cameras(pipeline)["door"]["clips"] > clips)


@pytest.mark.foreign
def test_a_gateway_that_dies_is_named(folder: Folder) -> None:
    errors = folder.path / "log"
    with running(folder.config({})), serving("faulty", config_of_doors(folder), errors=errors) as gateway:
        seen = Watched(gateway.metrics, errors.read_text)
        seen.shows("A gateway dies", lambda: kill_gateway(gateway), ("A client dies",))
