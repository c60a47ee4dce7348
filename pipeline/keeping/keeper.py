"""Keeper: the process `pipeline serve`. It starts pipelines and gateways, and has what clients can change.

It is also the process that a manager starts which serves (`pipeline.keeping.followed`): then the pipelines are the
manager's.

    start     ports reserved ──▶ pipelines ready ──▶ gateways ready ──▶ a line on stdout says where
    a gateway dies            it is started again, on the same ports, and told everything
    SIGTERM   gateways answer what is under way, and end ──▶ pipelines of its own end

It never touches a request: callers connect to the gateways, and these to the pipelines. What it decides is in
`pipeline.serving.truth`; here are its processes, sockets and signals. When it dies, even by kill -9, the gateways and
the pipelines that it started end with it (their lifelines); pipelines that it is only connected to go on.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

from pipeline.errors import KserveError, StartError
from pipeline.keeping.gateways import GatewayProcess
from pipeline.logs.entry import Entry
from pipeline.logs.log import OperatorLog
from pipeline.sd_notify import NotifySocket
from pipeline.serving.doors import reserved, where
from pipeline.serving.frames import (
    Call,
    Confirmed,
    Count,
    Counted,
    Failed,
    Frame,
    Hello,
    Load,
    Look,
    Ready,
    RegionTold,
    Register,
    SetLog,
    Settled,
    SetTrace,
    Unload,
    Unregister,
)
from pipeline.serving.regions import Regions
from pipeline.serving.settings import Settings
from pipeline.serving.truth import Fail, Instruction, Kill, Say, Serving, Settle, Start, Tell, Truth
from pipeline.streams import announce, unannounce, unheard

__all__ = ["Keeper", "Kept"]

#: Signals so close to each other are one request to stop, as of `pipeline run`.
_ONE_REQUEST_S = 0.1
#: How often to look whether a pipeline has died, or a manager has other models.
_LOOK_S = 0.25
#: Seconds that a gateway may take to end, beside what is under way there.
_GRACE_S = 5.0
#: Models that are started side by side.
_THREADS = 64


class Kept(Protocol):
    """The models, as the keeper sees them."""

    @property
    def wanted(self) -> list[str]:
        """The names of those that `start` loads, as far as they are known before."""

    @property
    def drain_s(self) -> float:
        """Seconds that what is under way may take at the end."""

    def described(self) -> str:
        """What is served now, for people."""

    async def start(self) -> None:
        """Have gateways told what is served at the start."""

    async def watch(self) -> list[Coroutine[Any, Any, None]]:
        """Is called again and again. Returns work that the caller begins, and need not wait for."""

    async def load(self, name: str) -> None:
        """A client wishes it. Raises: KserveError."""

    async def unload(self, name: str) -> None:
        """A client wishes it. Raises: KserveError."""

    async def look(self) -> None:
        """A client wishes to see all that can be loaded. Raises: KserveError."""

    def stop(self, timeout_s: float | None = None) -> None:
        """End what was started."""


class Keeper:
    """See above.

    Args:
        models: makes them; it is given how gateways are told, as of `KeptModels`.
        served: is called once gateways serve, with the ports that they have, and a line that says so.
        gone: whether the program that has started this process is gone: then a signal does not let it finish.
        log: where the gateways and this process say what; the caller closes it.
        notify: where the service manager listens; the caller closes it.
    """

    def __init__(
        self,
        settings: Settings,
        models: Callable[..., Kept],
        served: Callable[[Settings, str], None] | None = None,
        gone: Callable[[], bool] = lambda: False,
        *,
        log: OperatorLog,
        notify: NotifySocket | None = None,
    ) -> None:
        self._log = log
        self._notify = notify
        self._settings = settings
        self._served = served or _print
        self._gone_starter = gone
        self._truth = Truth(settings.gateways)
        self._regions = Regions(settings.shared_memory)
        self._models = models(
            tell=lambda told: self._changed(*self._truth.model(told, time.monotonic())),
            forget=lambda name: self._changed(*self._truth.forget(name, time.monotonic())),
            say=self._say,
        )  # fmt: skip
        self._processes: dict[int, GatewayProcess] = {}
        self._doors: list[socket.socket] = []
        #: Who waits until the change of a revision is settled.
        self._settled: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalled = float("-inf")

    def run(self) -> int:
        """Serve until SIGTERM or Ctrl-C; the exit code: 1 if a second one did not let it finish.

        Raises:
            StartError: a port cannot be had, a pipeline does not start, or no gateway does.
            Unavailable: a pipeline that was named does not run.
            KserveError: a model has a tensor that KServe does not have.
        """
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS))
        self._stop, self._at_once = asyncio.Event(), asyncio.Event()
        self._serving: asyncio.Future[None] = loop.create_future()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        for number in (signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,))):
            loop.add_signal_handler(number, self._signal)
        loop.add_signal_handler(signal.SIGUSR1, self._log.reopen)
        ended = False
        try:
            if not await self._or_stop(self._start()):
                self._log("info", "stopped before it had started")
                return 0
            self._log("info", f"ready: {self._line()}")
            self._served(self._settings, self._line())
            self._tell_service("READY=1", f"STATUS={self._line()}")
            self._begin(self._watch_models())
            await self._stop.wait()
            self._log("note", "draining: what is under way is finished, and no new request is taken")
            more_us = int((2 * self._models.drain_s + 2 * _GRACE_S) * 1e6)
            self._tell_service("STOPPING=1", "STATUS=finishing what is under way", f"EXTEND_TIMEOUT_USEC={more_us}")
            await self._or_at_once(self._end())
            ended = not self._at_once.is_set()
            if not ended:
                self._log("warning", "stopping at once")
            return 0 if ended else 1
        finally:
            await self._end_at_once(ended)

    def _signal(self) -> None:
        now = time.monotonic()
        if now - self._signalled > _ONE_REQUEST_S:
            (self._at_once if self._stop.is_set() else self._stop).set()
        if self._gone_starter():
            self._stop.set()
            self._at_once.set()
        self._signalled = now

    async def _or_stop(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do it; whether it was done before a signal came."""
        return await _done_before(work, self._stop)

    async def _or_at_once(self, work: Coroutine[Any, Any, None]) -> bool:
        return await _done_before(work, self._at_once)

    # -- the start ------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self._settings
        self._doors = [reserved(settings.host, port) for port in (
            settings.http_port, settings.grpc_port, settings.metrics_port
        )]  # fmt: skip
        http, rpc, metrics = [door.getsockname()[1] for door in self._doors]
        self._settings = replace(settings, http_port=http, grpc_port=rpc, metrics_port=metrics)
        models = ", ".join(self._models.wanted) or "gateways"
        self._log("info", f"starting {models}; gateways: {settings.gateways}; on {where(self._settings)}")
        if not self._log.settings.format:
            announce(f"starting {models} ...")
        try:
            await self._models.start()
            self._carry(self._truth.start(time.monotonic()))
            await self._serving
        finally:
            unannounce()

    def _line(self) -> str:
        count = self._settings.gateways
        by = f" by {count} gateways" if count > 1 else ""
        return f"serving {self._models.described()} on {where(self._settings)}{by}"

    # -- the end --------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Answer what is under way."""
        limit_s = self._models.drain_s
        self._carry(self._truth.drain(limit_s))
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s + _GRACE_S
        while self._truth.running and loop.time() < until:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self._models.stop)

    async def _end_at_once(self, ended: bool) -> None:
        self._carry(self._truth.drain(0.0))
        for process in self._processes.values():
            process.kill()
        if not ended:
            await asyncio.to_thread(self._models.stop, 0.0)
        while self._truth.running:
            await asyncio.sleep(0.01)
        for task in tuple(self._tasks):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._regions.unregister("")
        for door in self._doors:
            door.close()

    # -- instructions ---------------------------------------------------------------------------

    def _carry(self, instructions: Sequence[Instruction]) -> None:
        """Carry out what was decided."""
        for each in instructions:
            if isinstance(each, Tell):
                self._tell(each)
            elif isinstance(each, Settle):
                if (future := self._settled.pop(each.revision, None)) is not None and not future.done():
                    future.set_result(None)
            elif isinstance(each, Start):
                self._spawn(each.gateway)
            elif isinstance(each, Kill):
                if (process := self._processes.get(each.gateway)) is not None:
                    process.kill()
            elif isinstance(each, Serving):
                self._serving.set_result(None)
            elif isinstance(each, Fail):
                if not self._serving.done():
                    self._serving.set_exception(StartError(each.why))
            elif isinstance(each, Say):
                self._log(each.level, each.text)
        self._set_timer()

    def _tell(self, told: Tell) -> None:
        process = self._processes.get(told.gateway)
        if process is None:
            return
        frame = told.frame
        process.send(frame, self._regions.descriptor(frame.name) if isinstance(frame, RegionTold) else None)

    def _spawn(self, number: int) -> None:
        try:
            self._processes[number] = GatewayProcess(
                number, self._settings, self._log,
                lambda frame: self._take(number, frame), lambda how: self._gone(number, how),
            )  # fmt: skip
        except OSError as error:
            # Afterwards: what follows from a death may be carried out only once this is.
            asyncio.get_running_loop().call_soon(self._gone, number, f"the system does not start it: {error}")

    def _gone(self, number: int, how: str) -> None:
        self._processes.pop(number, None)
        self._carry(self._truth.died(number, how, time.monotonic()))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._truth.next_due()
        loop = asyncio.get_running_loop()
        self._timer = None if due is None else loop.call_later(max(0.0, due - time.monotonic()) + 0.001, self._due)

    def _due(self) -> None:
        self._carry(self._truth.due(time.monotonic()))

    # -- what gateways say ----------------------------------------------------------------------

    def _take(self, number: int, frame: Frame) -> None:
        now = time.monotonic()
        if isinstance(frame, Hello):
            self._carry(self._truth.hello(number, frame.version))
        elif isinstance(frame, Ready):
            self._carry(self._truth.ready(number, now))
        elif isinstance(frame, Failed):
            self._carry(self._truth.failed(number, frame.why))
        elif isinstance(frame, Confirmed):
            self._carry(self._truth.confirmed(number, frame.revision))
        elif isinstance(frame, Counted):
            self._carry(self._truth.counted(number, frame.revision, frame.counts, frame.traffic))
        elif isinstance(frame, Call):
            self._begin(self._answer(self._processes[number], frame))

    async def _answer(self, process: GatewayProcess, call: Call) -> None:
        try:
            settled = await self._fulfil(call)
        except KserveError as error:
            settled = Settled(call.number, error.code, str(error))
        except Exception as error:
            self._fault(type(call.wish).__name__, error)
            settled = Settled(call.number, "INTERNAL", "the server has failed at this call; its log says how")
        # Behind what all gateways were told. It may be dead by now; then its caller knows that the call failed.
        process.send(settled)

    async def _fulfil(self, call: Call) -> Settled:
        if self._stop.is_set():
            raise KserveError("the server is stopping", "UNAVAILABLE")
        wish, truth, now = call.wish, self._truth, time.monotonic()
        if isinstance(wish, Load):
            await self._models.load(wish.name)
        elif isinstance(wish, Unload):
            await self._models.unload(wish.name)
        elif isinstance(wish, Look):
            await self._models.look()
        elif isinstance(wish, Register):
            self._regions.register(wish.name, wish.key, wish.offset, wish.nbytes)
            (entry,) = self._regions.status(wish.name)
            await self._changed(*truth.register(entry, now))
        elif isinstance(wish, Unregister):
            self._regions.unregister(wish.name)
            await self._changed(*truth.unregister(wish.name, now))
        elif isinstance(wish, SetLog):
            await self._changed(*truth.change_log(wish.change, now))
        elif isinstance(wish, SetTrace):
            await self._changed(*truth.change_trace(wish.change, now))
        elif isinstance(wish, Count):
            await self._changed(*truth.report(now))
            return Settled(call.number, counts=truth.counts(), traffic=truth.traffic())
        return Settled(call.number)

    async def _changed(self, revision: int, instructions: Sequence[Instruction]) -> None:
        """Carry it out; returns once all gateways show it."""
        settled = self._settled[revision] = asyncio.get_running_loop().create_future()
        self._carry(instructions)
        await settled

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, text: str) -> None:
        """As the log settings say."""
        level, _, told = text.partition(": ")
        if self._truth.log[f"log_{level}"]:
            self._log(level, told)

    def _fault(self, what: str, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error)).rstrip()
        self._log.take(Entry("error", f"{what}: {error}", "serve", traceback=trace))

    def _tell_service(self, *lines: str) -> None:
        if self._notify is not None:
            self._notify.send("\n".join(lines))

    async def _watch_models(self) -> None:
        failed = ""
        watchdog_s = None if self._notify is None else self._notify.watchdog_s
        while not self._stop.is_set():
            await asyncio.sleep(_LOOK_S if watchdog_s is None else min(_LOOK_S, watchdog_s / 4))
            if watchdog_s is not None:
                # This loop turns. Gateways that hang are killed by it, and pipelines look after themselves.
                self._tell_service("WATCHDOG=1")
            self._log.flush()
            try:
                for work in await self._models.watch():
                    self._begin(work)
                failed = ""
            except Exception as error:
                # Such as too few descriptors just now: the next look may be better, and there must be one.
                if repr(error) != failed:
                    failed = repr(error)
                    self._fault("the models cannot be looked after", error)


def _print(settings: Settings, line: str) -> None:
    with unheard(1):
        print(line, flush=True)


async def _done_before(work: Coroutine[Any, Any, None], event: asyncio.Event) -> bool:
    """Do it, until the event comes; whether it was done.

    Raises:
        Exception: what it has raised.
    """
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((doing, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            return False
        await doing
        return True
    finally:
        for task in (doing, waiting):
            task.cancel()
        await asyncio.gather(doing, waiting, return_exceptions=True)
