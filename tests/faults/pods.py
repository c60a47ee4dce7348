"""A pod without Kubernetes: containers that share two folders and nothing else (see `container.py`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.faults.container import REFUSED
from tests.faults.load import until
from tests.links import LINK

__all__ = ["APP", "GROUP", "OTHER", "PIPELINE", "STRANGER", "Container", "Pod", "pod"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Users and their group, in numbers that no host has.
PIPELINE, APP, OTHER, STRANGER, GROUP = 61001, 61002, 61003, 61004, 62000

#: The only user of a rootless container, outside and inside.
ROOTLESS = 61005


class Container:
    """A program in namespaces of its own, and what it has printed."""

    def __init__(self, document: dict[str, Any], program: Path = HERE / "container.py") -> None:
        self.name = " ".join(document["argv"])
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(program), json.dumps(document)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def first(self) -> int:
        """Process 1 of the container, as it is called outside."""
        until(lambda: self.lines)
        return int(self.lines[0].removeprefix("pid "))

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has printed that."""
        until(lambda: self.text.count(text) >= times or self.process.poll() is not None)
        assert self.text.count(text) >= times, f"it has ended with {self.process.returncode}:\n{self.text}"

    def goes_on(self) -> None:
        """Wait until it has printed something more, that is no loss."""
        before = self.text.count("ok")
        self.says("ok", before + 3)

    def kill(self) -> None:
        """Kill its process 1, and with it all others, at once."""
        with suppress(ProcessLookupError):  # it has died by itself
            os.kill(self.first, signal.SIGKILL)
        self.ended()

    def stop(self) -> int:
        os.kill(self.first, signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait()
        self._reader.join()
        self.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            if self.lines:
                os.kill(self.first, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Pod:
    """Two volumes, and containers that have them."""

    def __init__(self, folder: Path, rootless: bool) -> None:
        self.folder = folder
        self.rootless = rootless
        self.shm = folder / "shm"
        self.run = folder / "run"
        self._containers: list[Container] = []

    def config(self, **fields: Any) -> None:
        """What the pipeline's container runs."""
        shutil.copy(HERE / "deadly_stages.py", self.folder)
        segments: dict[str, Any] = {"dir": str(self.shm)}
        if not self.rootless:
            segments["group"] = GROUP
        document = {
            "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 1024}}],
            "stages": [{"name": name, "use": "./deadly_stages.py:Work"} for name in ("first", "second")],
            "segments": segments,
            "capsules": {"folder": "/tmp/capsules"},
            "ingress": {"slots": 12},
            **LINK,
            **fields,
        }
        (self.folder / "pod.yaml").write_text(yaml.safe_dump(document))
        for path in self.folder.iterdir():
            if path.is_file():
                path.chmod(0o644)

    def document(self, argv: Sequence[str], user: int, groups: Sequence[int]) -> dict[str, Any]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRTLAB_RUN_DIR": str(self.run),
            "SEGMENTS": str(self.shm),
            "LANG": "C.UTF-8",
        }
        who: dict[str, Any] = {"user": user, "groups": [user, *groups]}
        if self.rootless:
            who = {"outer": ROOTLESS if os.geteuid() == 0 else os.geteuid(), "inner": user}
        return {
            "argv": [sys.executable, *argv], "env": environment,
            "open": [os.path.realpath(sys.base_prefix), os.path.realpath(sys.prefix), sys.prefix, str(ROOT)], **who,
        }  # fmt: skip

    def container(self, argv: Sequence[str], user: int, groups: Sequence[int] = (GROUP,)) -> Container:
        made = Container(self.document(argv, user, groups))
        self._containers.append(made)
        return made

    def pipeline(self, ready: bool = True) -> Container:
        """The pipeline's container."""
        arguments = ["-m", "pipeline", "run", "--serve", str(self.folder / "pod.yaml")]
        made = self.container(arguments, PIPELINE)
        if ready:
            made.says("serving pod in")
        return made

    def app(self, *what: str, user: int = APP, groups: Sequence[int] = (GROUP,)) -> Container:
        """A container of the application's."""
        return self.container([str(HERE / "pod_app.py"), *what], user, groups)

    def segments(self) -> list[str]:
        """The pools whose segments are there now."""
        return sorted(path.name.split(".")[2] for path in self.shm.glob("trtlab.*"))

    def of_clients(self) -> list[str]:
        """What lies in the folders of clients."""
        return sorted(path.name for path in self.run.glob("*/clients/*"))

    def close(self) -> None:
        for container in self._containers:
            container.close()
            # pytest shows it if the test has failed.
            print(f"--- {container.name}", *container.lines[-60:], sep="\n")


@contextmanager
def pod(rootless: bool, *, size_mib: int | None = None) -> Iterator[Pod]:
    """A pod; or why there can be none here, as a RuntimeError.

    Args:
        rootless: whether its containers are of one user, who is not root.
        size_mib: of its volume of segments, which then must be a tmpfs of its own, as it is wherever root runs this.
    """
    # Not in /tmp or /dev/shm, of which each container has its own.
    folder = Path(tempfile.mkdtemp(prefix="trtlab-pod-", dir="/var/tmp"))
    made = Pod(folder, rootless)
    mounted = False
    try:
        folder.chmod(0o755)
        for volume in (made.shm, made.run):
            volume.mkdir()
            if os.geteuid() == 0:
                os.chown(volume, ROOTLESS if rootless else -1, GROUP)
            # As a volume of Kubernetes with an fsGroup: it belongs to root, and what is made in it to the group.
            volume.chmod(0o2777)
        document = made.document(["-c", "pass"], PIPELINE, [GROUP])
        probe = Container({**document, "probe": True})
        if (code := probe.ended()) != 0:
            assert code == REFUSED, probe.text
            raise RuntimeError(probe.text)
        if os.geteuid() == 0:
            user = ROOTLESS if rootless else 0
            options = f"size={size_mib or 64}m,mode=2777,uid={user},gid={GROUP}"
            tried = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", made.shm], capture_output=True, text=True)
            mounted = not tried.returncode
            if size_mib is not None and not mounted:
                raise RuntimeError(f"no tmpfs can be mounted: {tried.stderr.strip()}")
        made.config()
        yield made
    finally:
        made.close()
        if mounted:
            subprocess.run(["umount", "-l", made.shm], check=True)
        shutil.rmtree(folder)
