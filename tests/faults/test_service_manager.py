"""A run under a service manager: what it is told, by a real datagram socket in place of systemd's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.titles import in_role
from pipeline.client.reloading import reload
from pipeline.errors import PipelineError
from tests.faults.load import until
from tests.faults.versions import Versions

WATCHDOG_S = 2.0

Start = Callable[[Path], "subprocess.Popen[Any]"]


class ServiceManager:
    """It listens, and keeps what it is told."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.environ = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.told: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.told.append(text)

    def hears(self, text: str, times: int = 1) -> None:
        """Wait until it has been told so."""
        until(lambda: sum(told.startswith(text) for told in self.told) >= times)

    def hears_nothing_more(self, text: str) -> None:
        """Wait for a time without it that is longer than a service which is well would let pass."""
        quiet_since, count = time.monotonic(), -1
        while time.monotonic() < quiet_since + 1.5 * WATCHDOG_S:
            if (now := self.told.count(text)) != count:
                quiet_since, count = time.monotonic(), now
            time.sleep(0.05)

    @property
    def states(self) -> list[str]:
        """What it was told of the service's life, in order."""
        lives = ("READY=1", "RELOADING=1", "STOPPING=1")
        return [told.partition("\n")[0] for told in self.told if told.startswith(lives)]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def start(manager: ServiceManager, started: Callable[..., subprocess.Popen[Any]]) -> Iterator[Start]:
    """Start `pipeline run` as a service; it ends by SIGTERM, if the test has not ended it."""
    runs: list[subprocess.Popen[Any]] = []

    def start(config: Path) -> subprocess.Popen[Any]:
        runs.append(started("run", "--serve", config, "--set", "stamp.replicas=1", env=manager.environ))
        return runs[-1]

    yield start
    for run in runs:
        run.terminate()
        run.wait()


def processes_of(run: subprocess.Popen[Any]) -> list[psutil.Process]:
    return psutil.Process(run.pid).children(recursive=True)


def ends_as_the_only_service(run: subprocess.Popen[Any], manager: ServiceManager) -> None:
    """None of its processes could take itself for the service; it ends well, and says so."""
    assert not [process for process in processes_of(run) if process.environ().keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC"}]
    run.terminate()
    assert run.wait() == 0
    manager.hears("STOPPING=1")


def test_it_is_ready_when_every_stage_is_and_not_before(manager: ServiceManager, versions: Versions, start: Start) -> None:
    run = start(versions.write(0, setup=versions.until_told))
    # The scheduler is, and the stage has been started.
    manager.hears("STATUS=starting: 1 of 2 processes are ready")
    assert manager.states == []
    versions.tell()
    manager.hears("READY=1")
    manager.hears("STATUS=serving")
    manager.hears("WATCHDOG=1", 3)
    ends_as_the_only_service(run, manager)
    assert manager.states == ["READY=1", "STOPPING=1"]
    manager.hears("EXTEND_TIMEOUT_USEC=")


def test_a_start_that_fails_is_never_ready(manager: ServiceManager, versions: Versions, start: Start) -> None:
    run = start(versions.write(0, setup="        raise RuntimeError('no')"))
    assert run.wait() == 3
    assert "READY=1" not in manager.states


def test_a_scheduler_that_hangs_ends_the_watchdog_s_messages(
    manager: ServiceManager, versions: Versions, start: Start
) -> None:
    run = start(versions.write(0))
    manager.hears("WATCHDOG=1", 2)
    (scheduler,) = in_role(run.pid, "scheduler", recursive=True)
    scheduler.suspend()
    manager.hears_nothing_more("WATCHDOG=1")
    assert run.poll() is None
    before = manager.told.count("WATCHDOG=1")
    scheduler.resume()
    manager.hears("WATCHDOG=1", before + 2)


@pytest.mark.foreign
def test_a_scheduler_that_is_killed_does_not_since_the_supervisor_brings_it_back(
    manager: ServiceManager, versions: Versions, start: Start
) -> None:
    run = start(versions.write(0))
    manager.hears("WATCHDOG=1", 2)
    (scheduler,) = in_role(run.pid, "scheduler", recursive=True)
    scheduler.kill()
    manager.hears("WATCHDOG=1", manager.told.count("WATCHDOG=1") + 4)
    assert manager.states == ["READY=1"]


@pytest.mark.foreign
def test_a_worker_that_is_stopped_does_not_either(manager: ServiceManager, versions: Versions, start: Start) -> None:
    run = start(versions.write(0))
    manager.hears("READY=1")
    (worker,) = in_role(run.pid, "stamp/0", recursive=True)
    worker.suspend()
    manager.hears("WATCHDOG=1", manager.told.count("WATCHDOG=1") + 6)
    worker.resume()


@pytest.mark.parametrize("hangs", ["supervisor", pytest.param("scheduler", marks=pytest.mark.foreign)])
def test_after_a_reload_the_root_is_the_service_and_the_version_that_serves_is_watched(
    manager: ServiceManager, versions: Versions, start: Start, hangs: str
) -> None:
    run = start(versions.write(0))
    manager.hears("READY=1")
    versions.write(1)
    reload("stamps")
    manager.hears("STATUS=serving, in stamps-")
    assert manager.states == ["READY=1", "RELOADING=1", "READY=1"]
    (reloading,) = [told for told in manager.told if told.startswith("RELOADING=1")]
    assert int(reloading.partition("\nMONOTONIC_USEC=")[2]) < time.monotonic() * 1e6
    until(lambda: len(processes_of(run)) == 3)
    manager.hears("WATCHDOG=1", manager.told.count("WATCHDOG=1") + 6)
    (process,) = in_role(run.pid, hangs, recursive=True)
    process.suspend()
    manager.hears_nothing_more("WATCHDOG=1")
    before = manager.told.count("WATCHDOG=1")
    process.resume()
    manager.hears("WATCHDOG=1", before + 2)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert manager.states == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


@pytest.mark.foreign
def test_a_reload_that_fails_leaves_the_service_ready(manager: ServiceManager, versions: Versions, start: Start) -> None:
    start(versions.write(0))
    manager.hears("READY=1")
    versions.write(1, setup="        raise RuntimeError('no')")
    with pytest.raises(PipelineError):
        reload("stamps")
    manager.hears("READY=1", 2)
    assert manager.states == ["READY=1", "RELOADING=1", "READY=1"]
    manager.hears("WATCHDOG=1", manager.told.count("WATCHDOG=1") + 3)


@pytest.mark.foreign
def test_pipeline_serve_is_ready_with_its_gateways_and_its_pipelines_tell_nothing(
    manager: ServiceManager, versions: Versions, started: Callable[..., subprocess.Popen[Any]]
) -> None:
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    run = started("serve", versions.write(0), *ports, env=manager.environ)
    manager.hears("READY=1")
    manager.hears("WATCHDOG=1", 4)
    ends_as_the_only_service(run, manager)
    assert [told.partition("\n")[0] for told in manager.told if told != "WATCHDOG=1"] == ["READY=1", "STOPPING=1"]
