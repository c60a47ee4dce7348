"""Gateway of the soak: `pipeline serve` in front of its pipeline, whose gateway processes are killed."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import psutil

from bench.titles import one_in_role
from pipeline.interpreter import python_command

__all__ = ["Door"]

_WHERE = re.compile(r"on (\S+), gRPC (\S+), metrics")
_GRACE_S = 30.0


class Door:
    """A keeper and its gateway, connected to the run of that name.

    Args:
        log: the file that it prints to.
    """

    def __init__(self, pipeline: str, log: Path) -> None:
        command = [*python_command("pipeline.__main__"), "serve", pipeline]
        for port in ("--http-port", "--grpc-port", "--metrics-port"):
            command += [port, "0"]
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self._process.stdout is not None
        found = _WHERE.search(self._process.stdout.readline())
        if found is None:
            self.kill()
            raise RuntimeError(f"the gateway did not start: {log.read_text()}")
        self.http, self.grpc = found.groups()

    def find(self, name: str) -> psutil.Process | None:
        """The living process of that name, such as gateway/0."""
        return one_in_role(self._process.pid, name)

    def stop(self) -> tuple[int, int]:
        """Its exit code after SIGTERM, and how many of its processes are left."""
        processes = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            code = -1
        _, left = psutil.wait_procs(processes, 1)
        return code, len(left)

    def kill(self) -> None:
        """End it, however it is. May be called again."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text()
