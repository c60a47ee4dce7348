"""Session: a peer as a subject of `bench.measure`: its driver in a process of its own, asked by lines of JSON.

    this process                                  the driver, in the environment of its peer
    {"do": "setup", "nbytes": n, "window": w}  ──▶
                                               ◀── {"answer": null}
    {"do": "latency", "seconds": s}            ──▶
                                               ◀── {"answer": [microseconds, ...]}
    {"do": "throughput", "seconds": s, ...}    ──▶
                                               ◀── {"answer": [requests, seconds]}   or {"error": "...", "torn": bool}

While a stretch is measured, this process only waits. The driver ends if this process does.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from bench.floors.slots import TornTensor
from bench.measure import Flow, SubjectDied
from bench.versus.leash import leashed

__all__ = ["Session", "left_by"]

_START_S = 180.0
_PATIENCE_S = 60.0
_END_S = 30.0
_BENCH = Path(__file__).resolve().parents[1]
#: Ray and torch remove these only if they end by themselves. The number is the process that has made it.
_LEFT = re.compile(r"(?:sem\.hdr|sem\.obj|torch_)(\d+)[-_]")


def left_by(pids: Collection[int], names: Iterable[str]) -> list[str]:
    """Of the names in /dev/shm, those that processes of these numbers have left."""
    return [name for name in names if (found := _LEFT.match(name)) and int(found[1]) in pids]


class Session:
    """A `bench.measure.Subject`.

    Args:
        name: of the peer.
        python: the interpreter that runs its driver.
        module: the driver, in `bench.peers.foreign`, and its arguments.
    """

    def __init__(self, name: str, python: str, module: str) -> None:
        self.name = name
        self._python = python
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._unread = b""

    def setup(self, nbytes: int, window: int) -> None:
        """Start the driver and what it drives.

        Raises:
            SubjectDied: it does not start; the message has the end of what it printed.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="trtlab-peer-")
        folder = Path(self._folder.name)
        # Of this project, the driver sees the benchmark alone: the sources would hide a package that is installed.
        (folder / "path").mkdir()
        (folder / "path/bench").symlink_to(_BENCH)
        driver, *arguments = self._module.split()
        command = [self._python, "-m", f"bench.peers.foreign.{driver}", *arguments]
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "path"),
            "PATH": f"{Path(self._python).parent}:{os.environ.get('PATH', '')}",
        }
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                leashed(command), cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self._ask(_START_S, do="setup", nbytes=nbytes, window=window)

    def latency(self, seconds: float) -> list[float]:
        return [float(sample) for sample in self._ask(_PATIENCE_S + seconds, do="latency", seconds=seconds)]

    def throughput(self, seconds: float, window: int) -> Flow:
        requests, took = self._ask(_PATIENCE_S + seconds, do="throughput", seconds=seconds, window=window)
        return Flow(int(requests), float(took))

    def pids(self) -> dict[str, list[int]]:
        """The driver, and all that it has started."""
        process = self._running()
        try:
            children = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            raise SubjectDied(f"{self.name}: its driver has ended; it printed:\n{self._log()}") from None
        return {"caller": [process.pid], "peer": [child.pid for child in children]}

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._end(process)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._unread = b""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Let the driver end what it has started, then see to it that nothing of it stays."""
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()  # the end of its orders
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, _END_S)
        for name in left_by({process.pid, *(child.pid for child in children)}, os.listdir("/dev/shm")):
            Path("/dev/shm", name).unlink(missing_ok=True)

    def _ask(self, patience_s: float, **order: Any) -> Any:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise SubjectDied(f"{self.name}: its driver has ended; it printed:\n{self._log()}") from None
        answer = json.loads(self._line(process, patience_s))
        if "error" in answer:
            kind = TornTensor if answer["torn"] else SubjectDied
            raise kind(f"{self.name}: {answer['error']}\n{self._log()}".rstrip())
        return answer["answer"]

    def _line(self, process: subprocess.Popen[bytes], patience_s: float) -> bytes:
        assert process.stdout is not None
        end = time.monotonic() + patience_s
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0:
                raise SubjectDied(f"{self.name}: no answer for {patience_s:g} s; it printed:\n{self._log()}")
            # Its children have the pipe too, so it may have ended without an end of the pipe.
            if not select.select([process.stdout], [], [], min(left, 1.0))[0]:
                if process.poll() is None:
                    continue
                raise SubjectDied(f"{self.name}: its driver has ended; it printed:\n{self._log()}")
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise SubjectDied(f"{self.name}: its driver has ended; it printed:\n{self._log()}")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _log(self) -> str:
        """The end of what the driver, and what it has started, has printed."""
        if self._folder is None:
            return ""
        lines: Sequence[str] = (Path(self._folder.name) / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-12:])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not set up: call setup() first")
        return self._process
