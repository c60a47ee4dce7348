"""Mosec: a server of HTTP in Rust before workers in Python, as processes; https://github.com/mosecorg/mosec."""

from __future__ import annotations

import http.client
import os
from contextlib import closing, suppress
from pathlib import Path

from bench.versus.environments import MOSEC, python_of
from bench.versus.process import ServerProcess, free_ports

__all__ = ["Mosec"]

_QUESTION = bytes(range(16))


class Mosec:
    """The relay of mosec_service.py, which is ready.

    Args:
        log: where it prints to; the file is made.

    Raises:
        MissingEnvironment: there is no mosec.
        RuntimeError: it does not start; the message has what it printed.
    """

    grpc = metrics = ""

    def __init__(self, log: Path) -> None:
        python = python_of(MOSEC)
        (port,) = free_ports(1)
        self.http = f"127.0.0.1:{port}"
        command = [
            python, str(Path(__file__).parent / "foreign/mosec_service.py"), "--address", "127.0.0.1",
            "--port", str(port), "--timeout", "30000", "--max-body-size", str(64 << 20), "--log-level", "error",
        ]  # fmt: skip
        environment = {"PATH": f"{Path(python).parent}:{os.environ.get('PATH', '')}"}
        self._server = ServerProcess(
            "mosec", command, log, self._answers, environment=environment, start_s=60.0, end_s=30.0
        )

    def pids(self) -> dict[str, list[int]]:
        """Its processes: the server in Rust, the workers with what supervises them, and the store."""
        groups: dict[str, list[int]] = {"server": [], "workers": [self._server.pid]}
        for child in self._server.children():
            groups["server" if child.name() == "mosec" else "workers"].append(child.pid)
        return groups

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._server.close()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.http, timeout=10)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/inference", _QUESTION)
            return connection.getresponse().read() == _QUESTION
        return False
