"""Triton: NVIDIA's server, as it is in build/triton, over a repository of models.

    tritonserver ──▶ a stub for each instance of a Python model: a process, beside shared memory in /dev/shm

It runs without a GPU. Its ports are chosen here, since it takes no port 0 for "any".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.versus.environments import TRITON, required
from bench.versus.process import ServerProcess, free_ports, says_ready

__all__ = ["Triton"]


class Triton:
    """A server that runs and is ready.

    Args:
        models: the repository (see `bench.versus.repository`).
        log: where it prints to; the file is made.
        options: further ones of tritonserver.
        ports: of HTTP, gRPC and metrics, such as those of one that was killed; None: any.

    Raises:
        MissingEnvironment: there is no Triton.
        RuntimeError: it does not start; the message has what it printed.
    """

    def __init__(self, models: Path, log: Path, *options: str, ports: Sequence[int] | None = None) -> None:
        folder = required(TRITON)
        (site,) = (folder / "lib").glob("python3.*/site-packages")
        self.ports = tuple(free_ports(3) if ports is None else ports)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in self.ports)
        # Its stubs leave objects of this name in /dev/shm if the server is killed.
        self._prefix = f"trtlab_versus_{os.getpid()}_{self.ports[1]}_"
        command = [
            str(site / "pytriton/tritonserver/bin/tritonserver"), "--model-repository", str(models),
            "--backend-directory", str(folder / "backends"),
            "--backend-config", f"python,shm-region-prefix-name={self._prefix}",
        ]  # fmt: skip
        for name, port in zip(("http", "grpc", "metrics"), self.ports):
            command += [f"--{name}-address", "127.0.0.1", f"--{name}-port", str(port)]
        environment = {
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
            "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(site),
        }
        try:
            self._server = ServerProcess(
                "Triton", [*command, *options], log, lambda: says_ready(self.http), environment=environment
            )
        except BaseException:
            self._remove_memory()
            raise

    def stub(self, model: str) -> int:
        """The process id of a Python model's stub.

        Raises:
            RuntimeError: it has none.
        """
        for child in self._server.children():
            with suppress(psutil.NoSuchProcess):
                if any(f"/{model}/1/model.py" in argument for argument in child.cmdline()):
                    return child.pid
        raise RuntimeError(f"found no stub of the model {model!r} below process {self._server.pid}")

    def pids(self) -> dict[str, list[int]]:
        """Its processes: the server, the stubs."""
        return {"server": [self._server.pid], "workers": [child.pid for child in self._server.children()]}

    def kill(self) -> None:
        """End it as a crash would; of its memory nothing is left."""
        self._server.kill()
        self._remove_memory()

    def close(self) -> None:
        """End it. A second call does nothing."""
        try:
            self._server.close()
        finally:
            self._remove_memory()

    def _remove_memory(self) -> None:
        for path in Path("/dev/shm").glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)
