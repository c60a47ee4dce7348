"""Gateways: the process of a gateway, as the keeper sees it: started, told, killed, and dead for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

from pipeline.interpreter import python_command
from pipeline.logs.log import OperatorLog
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
        log: where it says what.
        take: is called for each of its frames.
        died: is called once, with how it died, after its last frame.

    Raises:
        OSError: the system starts no process.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        log: OperatorLog,
        take: Callable[[Frame], None],
        died: Callable[[str], None],
    ) -> None:
        self._died = died
        self._log = log
        self._title = f"gateway/{number}"
        ours, theirs = socket.socketpair()
        boot = GatewayBoot(number, settings, theirs.fileno(), os.getpid(), log.least)
        try:
            # Ctrl-C in our terminal does not reach it.
            self._child = ChildProcess(
                python_command("pipeline.processes.gateway"), boot.line(), {}, kept=(theirs.fileno(),)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            # The one copy is its own, so that our end is closed when it dies.
            theirs.close()
        self.pid = self._child.pid
        self._link = Link(ours, lambda frame, _: take(frame), self._end)
        self._watching: asyncio.Task[None] | None = None
        assert self._child.output is not None
        self._output = self._child.output
        asyncio.get_running_loop().add_reader(self._output, self._read)

    def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """See `Link.send`."""
        self._link.send(frame, descriptor)

    def kill(self) -> None:
        """End it at once."""
        self._child.send_signal(signal.SIGKILL)

    def _read(self, *, dead: bool = False) -> None:
        for entry in self._child.read(self._title, dead=dead):
            self._log.take(entry)
        if self._child.output is None or dead:
            asyncio.get_running_loop().remove_reader(self._output)

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
        self._read(dead=True)
        self._child.close()
        self._died(describe_exit(status))
