"""Process: a server of others, from its start until nothing of it is left."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.versus.leash import leashed

__all__ = ["ServerProcess", "free_ports", "says_ready"]

_LOOK_S = 0.1


class ServerProcess:
    """A server that runs and is ready, with the processes that it has started.

    Args:
        name: of the server, for errors.
        command: starts it.
        log: where it prints to; it is made, or written on. Its folder is the server's.
        is_ready: whether it answers.
        environment: variables beside those of this process.
        start_s: seconds until it is ready.
        end_s: seconds from SIGTERM on after which it is killed.

    Raises:
        RuntimeError: it does not start; the message has what it printed, and nothing of it is left.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        is_ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] = {},
        start_s: float = 120.0,
        end_s: float = 60.0,
    ) -> None:
        self._end_s = end_s
        with log.open("ab") as file:
            # A session of its own: what it has started may outlive it, and is found all the same.
            self.process = subprocess.Popen(
                leashed(command), env={**os.environ, **environment}, cwd=log.parent, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + start_s
        try:
            while not is_ready():
                if self.process.poll() is not None or time.monotonic() >= end:
                    text = log.read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"{name} was not ready within {start_s:g} s, or has ended; it printed:\n{text}")
                time.sleep(_LOOK_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """What it has started, and what that has started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """End it as a crash would: SIGKILL to it and to what it has started."""
        self._kill(self.children())

    def close(self) -> None:
        """End it, and what it has started. A second call does nothing."""
        children = self.children()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self._end_s)
        self._kill(children)

    def _kill(self, children: list[psutil.Process]) -> None:
        self.process.kill()
        self.process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, self._end_s)


def says_ready(where: str) -> bool:
    """Whether a server of KServe v2 at HOST:PORT of HTTP says that it is ready."""
    connection = http.client.HTTPConnection(where, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports that are free now. Another program may take one before the server does; then it says so, and ends."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
