"""Gateway: ours, `pipeline serve CONFIG` as users start it, in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from bench.titles import one_in_role
from bench.versus.leash import leashed
from pipeline.interpreter import python_command

__all__ = ["Gateway", "group_of"]

_WHERE = re.compile(r"on http://(\S+), gRPC (\S+), metrics http://([^/]+)/")
_END_S = 60.0


def group_of(title: str) -> str:
    """The group of a process below the gateway's, by its title; the supervisor has that of the interpreter."""
    if title.startswith("pipeline gateway/"):
        return "server"
    if title.startswith("pipeline["):
        return "scheduler" if title.endswith("] scheduler") else "workers"
    return "supervisor"


class Gateway:
    """A gateway that serves. It and its pipeline end with `close`.

    Args:
        config: path of the YAML file.
        log: where it prints its errors to; the file is made.
        assignments: what `--set` takes.

    Raises:
        RuntimeError: it does not start; the message has what it printed.
    """

    def __init__(self, config: Path, log: Path, *assignments: str) -> None:
        # Short: the path of a unix socket has at most 107 bytes.
        self._runs = tempfile.TemporaryDirectory(prefix="trt-", dir="/tmp")
        command = [*python_command("pipeline.__main__"), "serve", str(config)]
        for name in ("http", "grpc", "metrics"):
            command += [f"--{name}-port", "0"]
        for each in assignments:
            command += ["--set", each]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                leashed(command), env={**os.environ, "TRTLAB_RUN_DIR": self._runs.name}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True,
            )  # fmt: skip
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            found = _WHERE.search(line)
            if found is None:
                raise RuntimeError(f"the gateway did not start; it printed:\n{line}{log.read_text(errors='replace')}")
        except BaseException:
            self.close()
            raise
        self.http, self.grpc, self.metrics = found.groups()

    def worker(self, stage: str) -> int:
        """The process id of a stage's first worker, by its title.

        Raises:
            RuntimeError: there is none now.
        """
        if (worker := one_in_role(self.process.pid, f"{stage}/0", recursive=True)) is None:
            raise RuntimeError(f"found no worker of the stage {stage!r} below process {self.process.pid}")
        return worker.pid

    def pids(self) -> dict[str, list[int]]:
        """Its processes: what serves, the scheduler, the workers, the supervisor."""
        groups: dict[str, list[int]] = {"server": [self.process.pid], "scheduler": [], "workers": [], "supervisor": []}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            groups[group_of(child.cmdline()[0])].append(child.pid)
        return groups

    def close(self) -> None:
        """End it. A second call does nothing."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        with suppress(FileNotFoundError):
            self._runs.cleanup()
