"""Running: a pipeline in processes of its own for the length of a `with` block.

It starts what a user starts, `pipeline run CONFIG --serve`, waits until it is ready, and leaves
nothing behind, however the block ends. It looks at the run from outside only: through a client, process
ids and the exit code.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.client.client import Client
from pipeline.errors import StartError
from pipeline.interpreter import python_command

__all__ = ["RunningPipeline", "running"]

#: Seconds to drain after a test that failed, and again to stop.
_GRACE_S = 5.0


class RunningPipeline:
    """A pipeline that serves. Made by `running`."""

    def __init__(self, process: subprocess.Popen[bytes], run_dir: Path, log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        #: The run's folder, which `Client.connect` takes.
        self.run_dir = run_dir

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    def client(self, name: str = "test") -> Client:
        """A new connected client; the caller closes it."""
        return Client.connect(self.run_dir, name=name)

    def status(self) -> dict[str, Any]:
        """The scheduler's view of the run, as `Client.status` gives it."""
        with self.client("status") as client:
            return client.status()

    def worker_pids(self, stage: str) -> list[int]:
        """Process ids of a stage's workers that are ready, by replica.

        Raises:
            KeyError: the pipeline has no such stage.
        """
        workers = {entry["name"]: entry["workers"] for entry in self.status()["stages"]}[stage]
        return [worker["pid"] for worker in sorted(workers, key=lambda worker: worker["replica"])]

    def log(self) -> str:
        """What the run has printed to stderr so far, its stages' own output included."""
        return _read(self._log)

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit code, negative for a signal.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        stdout = self._process.stdout
        assert stdout is not None
        if self._process.poll() is None:
            # The process prints nothing more, and no other one has this pipe: it becomes readable when the process
            # ends, which is noticed at once. `Popen.wait` would look every 50 ms.
            select.select([stdout], [], [], timeout_s)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the pipeline still runs after {timeout_s:g} s; it printed:\n{self.log()}") from None

    def stop(self, timeout_s: float = 30.0) -> int:
        """Drain the pipeline, as SIGTERM does, and return the exit code. If it has ended already: its exit code.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)


@contextmanager
def running(
    config: str | os.PathLike[str], assignments: Sequence[str] = (), *, timeout_s: float = 60.0
) -> Iterator[RunningPipeline]:
    """Serve the pipeline of a config while the block runs.

    Args:
        config: path of the YAML file.
        assignments: what `--set` takes: "inference.replicas=2".
        timeout_s: seconds to wait until it is ready, and again until it has drained at the end.

    Raises:
        StartError: the pipeline ended, or was not ready in time; the message has what it printed.
    """
    command = [*python_command("pipeline.__main__"), "run", os.fspath(config), "--serve"]
    for assignment in assignments:
        command += ["--set", assignment]
    with tempfile.TemporaryFile() as log:
        # In a session of its own: Ctrl-C ends the tests, and the block below ends the pipeline.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            pipeline = RunningPipeline(process, _run_dir(process, log, timeout_s), log)
            _wait_until_staffed(pipeline, timeout_s)
            yield pipeline
            pipeline.stop(timeout_s)
        finally:
            # One signal drains; if that takes too long, a second one stops at once, and it still cleans up.
            for _ in range(2):
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_GRACE_S)
            # Its children end too: their lifelines close.
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _run_dir(process: subprocess.Popen[bytes], log: IO[bytes], timeout_s: float) -> Path:
    """The folder out of the line "serving NAME in FOLDER", which says that the pipeline is ready."""
    assert process.stdout is not None
    printed = bytearray()
    end = time.monotonic() + timeout_s
    while not printed.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        if not readable:
            raise StartError(f"the pipeline was not ready within {timeout_s:g} s; it printed:\n{_read(log)}")
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            raise StartError(f"the pipeline ended with exit code {process.wait()}; it printed:\n{_read(log)}")
        printed += chunk
    return Path(printed.decode().strip().partition(" in ")[2])


def _wait_until_staffed(pipeline: RunningPipeline, timeout_s: float) -> None:
    """Wait until the scheduler knows every worker: the supervisor, which prints the line, may hear of one sooner."""
    end = time.monotonic() + timeout_s
    while any(len(stage["workers"]) < stage["replicas"] for stage in pipeline.status()["stages"]):
        if time.monotonic() > end:
            raise StartError(f"the scheduler did not hear of every worker within {timeout_s:g} s")
        time.sleep(0.01)


def _read(log: IO[bytes]) -> str:
    # The child writes through the same open file, so its position must not change.
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode(errors="replace")
