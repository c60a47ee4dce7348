"""Gateways: the process of a gateway, as the keeper sees it: started, told, killed, and dead for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

from pipeline.interpreter import python_command
from pipeline.serving.boot import GatewayBoot
from pipeline.serving.frames import Frame
from pipeline.serving.link import Link
from pipeline.serving.settings import Settings
from pipeline.supervisor.process import ChildProcess, describe_exit

__all__ = ["GatewayProcess"]

_LOOK_S = 0.01
#: Seconds that one may live whose link has ended.
_LAST_S = 5.0


class GatewayProcess:
    """A gateway. It dies with this process, however that dies.

    Args:
        number: which of them it is.
        settings: with the ports that were reserved.
        take: is called for each of its frames.
        died: is called once, with how it died, after its last frame.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(
        self, number: int, settings: Settings, take: Callable[[Frame], None], died: Callable[[str], None]
    ) -> None:
        self._died = died
        ours, theirs = socket.socketpair()
        boot = GatewayBoot(number, settings, theirs.fileno(), os.getpid())
        try:
            # What it prints goes where ours goes, and Ctrl-C there does not reach it.
            self._child = ChildProcess(
                python_command("pipeline.processes.gateway"), boot.line(), {},
                own_terminal=True, own_session=True, kept=(theirs.fileno(),),
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            # The one copy is its own, so that our end is closed when it dies.
            theirs.close()
        self.pid = self._child.pid
        self._link = Link(ours, lambda frame, _: take(frame), self._end)
        self._watching: asyncio.Task[None] | None = None

    def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """See `Link.send`."""
        self._link.send(frame, descriptor)

    def kill(self) -> None:
        """End it at once."""
        self._child.send_signal(signal.SIGKILL)

    def _end(self, why: str) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        """Until it is dead for certain: only then another one may be started in its place."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_S
        while (status := self._child.exit_status()) is None:
            if loop.time() >= until:
                self.kill()
                until = float("inf")
            await asyncio.sleep(_LOOK_S)
        self._child.close()
        self._died(describe_exit(status))
