"""Where the memory of a pod is charged: a pipeline and an app in two control groups, like two containers.

    python -m bench.cgroups

    pod ──┬── pipeline    `pipeline run --serve`: makes the segments
          └── app         a client: writes requests, reads answers

The kernel charges a page of shared memory to the group of the process that touches it first, and leaves it there,
whichever processes use it later (Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"). The supervisor touches
every page when it makes a segment. When a container's group is removed, what it is still charged for counts in the
group above it, the pod's, as long as a process maps it. Works with version 2 and version 1; needs to make groups, so
usually root.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from pipeline.client import Client
from pipeline.interpreter import python_command

__all__ = ["Group", "NoGroups", "Row", "charges", "pod_group"]

_MIB = 1 << 20
_SLOTS = 32
_CONFIG = f"""\
name: charged
inputs: [{{name: tensor, dtype: uint8, shape: [{_MIB}]}}]
stages: [{{name: relay, use: "stages.relay:Relay", with: {{shape: [{_MIB}]}}}}]
ingress: {{slots: {_SLOTS}}}
"""


class NoGroups(Exception):
    """This process cannot make control groups with a count of memory; the message says why."""


class Group:
    """A control group that this process has made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir()
        except OSError as error:
            raise NoGroups(f"{path}: {error.strerror}") from error
        self._usage, self._shared = (
            ("memory.current", "shmem ")
            if (path / "memory.current").exists()
            else ("memory.usage_in_bytes", "total_shmem ")
        )
        if not (path / self._usage).exists():
            path.rmdir()
            raise NoGroups(f"{path.parent}: its groups do not count memory (cgroup.subtree_control)")

    def start(self, command: list[str], **options: int | dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process that is in the group from its first instruction on."""
        procs = str(self.path / "cgroup.procs")
        # A shell, since what runs between fork and exec would be charged to this process's group.
        entered = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', procs, *command]
        return subprocess.Popen(entered, **options)  # type: ignore[call-overload, no-any-return]

    @property
    def current(self) -> int:
        """Bytes that are charged to it and the groups in it."""
        return int((self.path / self._usage).read_text())

    @property
    def shared(self) -> int:
        """Those of them that are pages of shared memory."""
        lines = (self.path / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(self._shared))

    @property
    def processes(self) -> list[int]:
        """The pids of what runs in it."""
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    @property
    def kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        events = self.path / ("memory.events" if self._usage == "memory.current" else "memory.oom_control")
        return next(int(line.split()[1]) for line in events.read_text().splitlines() if line.startswith("oom_kill "))

    def limit(self, nbytes: int) -> None:
        """Let it have so much memory, as the limit of a container does."""
        limit = "memory.max" if self._usage == "memory.current" else "memory.limit_in_bytes"
        (self.path / limit).write_text(str(nbytes))

    def remove(self) -> None:
        """End what runs in it and in the groups in it, and remove them."""
        _remove(self.path)


def _remove(group: Path) -> None:
    while True:
        for child in group.iterdir():
            if child.is_dir():
                _remove(child)
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)


@contextmanager
def pod_group() -> Iterator[Group]:
    """A group whose groups count memory.

    Raises:
        NoGroups: it cannot be made here.
    """
    mount = Path("/sys/fs/cgroup")
    version_2 = (mount / "cgroup.controllers").exists()
    parent = _counting(mount) if version_2 else mount / "memory"
    pod = Group(parent / f"trtlab-pod-{os.getpid()}")
    try:
        if version_2:
            try:
                (pod.path / "cgroup.subtree_control").write_text("+memory")
            except OSError as error:
                raise NoGroups(f"{pod.path}: {error.strerror}") from error
        yield pod
    finally:
        pod.remove()


def _counting(mount: Path) -> Path:
    """The innermost group around this process whose groups count memory; it cannot be one that has processes itself."""
    (path,) = (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    own = mount / path.strip("/")
    for group in (own, *own.parents):
        if "memory" in (group / "cgroup.subtree_control").read_text().split():
            return group
        if group == mount:
            break
    raise NoGroups(f"no group around {own} lets its groups count memory (cgroup.subtree_control)")


class Row(NamedTuple):
    """Bytes of shared memory that are charged, after one step."""

    step: str
    pod: int
    """With what is charged to groups that have been removed."""
    pipeline: int
    app: int
    pod_current: int
    """All memory of the pod, that of processes included."""


class _App:
    """The app's process; see `_serve_app`."""

    def __init__(self, group: Group, environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        command = python_command("bench.cgroups", folders=[str(Path(__file__).parents[1])])
        self._process = group.start([*command, "app"], stdin=pipe, stdout=pipe, env=environment)

    def do(self, what: str) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n".encode())
        stdin.flush()
        answer = stdout.readline()
        if answer != b"done\n":
            raise RuntimeError(f"the app could not {what}: {answer!r}")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _started(group: Group, config: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    process = group.start(
        [*python_command("pipeline.__main__"), "run", str(config), "--serve"], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    if not process.stdout.readline().startswith(b"serving"):
        process.communicate()
        raise RuntimeError("the pipeline has not started")
    return process


def charges(pod: Group) -> Iterator[Row]:
    """What is charged to the pipeline's group and the app's, step by step."""
    pipeline, app = Group(pod.path / "pipeline"), Group(pod.path / "app")

    def row(step: str) -> Row:
        return Row(step, pod.shared, pipeline.shared, app.shared, pod.current)

    with tempfile.TemporaryDirectory(prefix="trt-", dir="/tmp") as folder:
        config = Path(folder, "charged.yaml")
        config.write_text(_CONFIG)
        environment = {**os.environ, "TRTLAB_RUN_DIR": folder}
        process = _started(pipeline, config, environment)
        client = _App(app, environment)
        try:
            yield row("the pipeline is ready")
            client.do("send")
            yield row("the app has written every slot, read the answers, and keeps one")
            process.kill()
            process.communicate()
            pipeline.remove()
            pipeline = Group(pod.path / "pipeline-2")
            yield row("the pipeline's container was killed; the app still maps its segments")
            process = _started(pipeline, config, environment)
            yield row("it was started again: it has made new segments")
            client.do("drop")
            yield row("the app has let go of the old ones")
            client.do("touch")
            yield row(f"the app itself has touched {_SLOTS} MiB first")
        finally:
            client.end()
            process.terminate()
            process.communicate()
            pipeline.remove()
            app.remove()


def _serve_app(stdin: IO[str]) -> None:
    """The app: does what each line says, and answers."""
    client = kept = touched = None
    tensor = np.arange(_MIB, dtype=np.uint8)
    for line in stdin:
        if line == "send\n":
            client = Client.connect("charged")
            # The ring of slots goes around twice; a result that is kept maps its segment.
            for _ in range(2 * _SLOTS):
                kept = client.submit(tensor=tensor).get(30)
                assert np.array_equal(kept["tensor"], tensor)
        elif line == "drop\n":
            assert client is not None
            kept = None
            client.close()
            # A client that is closed still maps the segments, until it is dropped.
            client = None
        elif line == "touch\n":
            touched = mmap.mmap(-1, _SLOTS * _MIB)
            for start in range(0, len(touched), mmap.PAGESIZE):
                touched[start] = 1
        print("done", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or be the app; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["app"]:
        _serve_app(sys.stdin)
        return 0
    try:
        with pod_group() as pod:
            rows = list(charges(pod))
    except NoGroups as error:
        print(f"no control groups can be made here: {error}", file=sys.stderr)
        return 3
    if arguments == ["--json"]:
        print(json.dumps([row._asdict() for row in rows]))
        return 0
    print(" pipeline      app      pod    all of pod  MiB; the first three: shared memory")
    for row in rows:
        charged, pod_current = (row.pipeline, row.app, row.pod), row.pod_current
        sizes = "".join(f"{value / _MIB:>9.1f}" for value in charged)
        print(f"{sizes}{pod_current / _MIB:>14.1f}  {row.step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
