"""Server: gateways in front of a manager: what `manager.serve(...)` gives.

    this program                      pipeline.keeping.followed                pipeline gateway/0, ...
    Server ──settings, models──▶ its stdin ──told──▶ gateways ◀── callers
        ◀──ports── its stdout                            └── clients of the manager's models

It is one more process of this program's (`StartedProcess`), which keeps the gateways: callers do not wait for this
program's threads. It ends with this program, however that ends. What the manager loads and unloads later is told within
a moment.

    close()                                        what is under way is answered first
    the manager stops                              the same, and then its models end
    this program exits, is killed                  at once
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType, TracebackType
from typing import Any

import msgspec

from pipeline.errors import ClientMisuse, PipelineError, StartError, Unavailable
from pipeline.interpreter import python_command
from pipeline.repository.log import Forwarded
from pipeline.repository.run import StartedProcess
from pipeline.serving.boot import KeeperBoot, ModelPlace, Ports
from pipeline.serving.doors import shown
from pipeline.serving.settings import Settings

__all__ = ["Server"]

#: How often it is looked whether the manager has other models; `look` is sooner.
_LOOK_S = 0.5
#: Seconds for what is under way, if the config of no model is known.
_DRAIN_S = 10.0
#: Seconds that it may take to end beside that: 5 of its own, and some to spare.
_GRACE_S = 10.0


class Server:
    """Gateways that serve the models of a manager, over HTTP and gRPC. `Models.serve` makes it, and begins it.

    As long as it serves, it keeps itself and its manager alive, also if the program keeps no reference to it.

    Args:
        models: where the manager's models run now, by name.

    Raises:
        StartError: the system starts no process.
    """

    def __init__(self, models: Callable[[], Mapping[str, ModelPlace]], settings: Settings) -> None:
        self._models = models
        self._told = dict(models())
        self._process_id = os.getpid()
        self._begun = False
        self._ending = threading.Event()
        self._looking = threading.Event()
        #: When it is ended whatever it does, monotonic seconds: a while after a signal.
        self._end_by = inf
        self._process = StartedProcess(python_command("pipeline.keeping.followed"), "the gateway", Forwarded("gateway"))
        self._process.tell(KeeperBoot(settings, self._told).line())
        self._secure = bool(settings.certificate)
        #: Where callers connect, as it was given.
        self.host = settings.host
        #: Of HTTP, gRPC and /metrics: those that it has, also if 0 was given.
        self.port, self.grpc_port, self.metrics_port = settings.http_port, settings.grpc_port, settings.metrics_port

    def begin(self, timeout_s: float) -> None:
        """Wait until it serves, or a signal has closed it; `serves` says which.

        Raises:
            StartError: a port cannot be had, no model can be served, or it does not serve within so many seconds.
        """
        try:
            ports = msgspec.json.decode(self._process.await_line(timeout_s), type=Ports)
        except StartError:
            if self._ending.is_set():
                return
            raise
        self.port, self.grpc_port, self.metrics_port = ports.http, ports.grpc, ports.metrics
        self._begun = True
        threading.Thread(target=self._follow, name="server", daemon=True).start()

    @property
    def url(self) -> str:
        """Of HTTP, as `RemoteInferenceManager` takes it."""
        return f"{'https' if self._secure else 'http'}://{shown(self.host)}:{self.port}"

    @property
    def grpc_url(self) -> str:
        """Of gRPC."""
        return f"{'grpcs' if self._secure else 'grpc'}://{shown(self.host)}:{self.grpc_port}"

    # -- while it serves --------------------------------------------------------------------------

    @property
    def serves(self) -> bool:
        """Whether it serves."""
        return self._begun and not self._ending.is_set() and self._process.alive

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return not self._process.alive

    def look(self) -> None:
        """The manager may have other models now: have that told at once."""
        self._looking.set()

    def _follow(self) -> None:
        while self.serves:
            self._looking.wait(_LOOK_S)
            self._looking.clear()
            # A manager that stops ends this; a folder of runs that cannot be read now may be read the next time.
            with suppress(PipelineError, OSError):
                models = dict(self._models())
                if models != self._told:
                    self._told = models
                    self._process.tell(msgspec.json.encode(models) + b"\n")

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended: another thread has closed it or stopped the manager.

        Raises:
            TimeoutError: it still serves after `timeout_s` seconds.
            Unavailable: it has died; the message has what it has printed.
            ClientMisuse: this is the child of a fork.
        """
        if os.getpid() != self._process_id:
            raise ClientMisuse(
                f"this server is of process {self._process_id}, which alone can wait for it: its child {os.getpid()} "
                f"has no part in it"
            )
        until = inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended_within(max(0.0, min(_LOOK_S, until - time.monotonic()))):
            now = time.monotonic()
            if now >= self._end_by:
                self.close_at_once()
            elif now >= until:
                printed = self._process.log()
                raise TimeoutError(f"the gateway still runs after {timeout_s:g} s; it printed:\n{printed}")
        if not self._ending.is_set():
            raise Unavailable(f"the gateway has died ({self._process.how}); it printed:\n{self._process.log()}")

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except TimeoutError:
            return False
        return True

    @contextmanager
    def closed_by_signals(self) -> Iterator[None]:
        """Within the block, if this is the main thread, SIGINT and SIGTERM close it, and a second one does not let it
        finish.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: it was set by code that is not Python's, and cannot be set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _signal(self, number: int, frame: FrameType | None) -> None:
        # One that is stopped, or hangs, does not end by itself; the second signal waits for nothing.
        limit_s = _GRACE_S if self._ending.is_set() else self._limit_s
        self._end_by = min(self._end_by, time.monotonic() + limit_s)
        self._ending.set()
        self._process.interrupt()

    # -- the end ----------------------------------------------------------------------------------

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing new, answer what is under way, and end; the models go on. May be called again.

        Args:
            timeout_s: seconds after which it ends at once. None: the longest `drain_s` of the models' configs, or 10 if
                none of them is known here, and some for the end itself.
        """
        if os.getpid() != self._process_id:
            return
        if not self._ending.is_set():
            self._ending.set()
            self._process.interrupt()
        self._looking.set()
        self._ended_within(self._limit_s if timeout_s is None else timeout_s)
        self._process.end()

    @property
    def _limit_s(self) -> float:
        """Seconds that it may take to end, if it is well."""
        return max([model.drain_s or _DRAIN_S for model in self._told.values()], default=_DRAIN_S) + _GRACE_S

    def close_at_once(self) -> None:
        """End, and answer nothing of what is under way."""
        self._ending.set()
        self._looking.set()
        self._process.end()

    async def aclose(self) -> None:
        """As `close`, in an asyncio loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __reduce__(self) -> Any:
        raise TypeError("a server cannot be sent to another process")

    def __repr__(self) -> str:
        state = "" if self.serves else ", which has ended"
        return f"<Server: {', '.join(self._told) or 'no model yet'} on {self.url}, {self.grpc_url}{state}>"
