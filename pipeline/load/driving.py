"""Driving: a loop against a real target, with a clock, a queue of answers and Ctrl-C. Decides nothing itself.

One thread, that of the command, sends and counts. The runner's thread, in which futures are done, only notes the time
of each answer and puts it into a queue.
"""

from __future__ import annotations

import concurrent.futures
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, Queue
from types import FrameType
from typing import Any

from pipeline.errors import PipelineError, RequestError
from pipeline.load.inputs import Stock
from pipeline.load.loops import Loop
from pipeline.load.tally import Failure
from pipeline.load.target import Runner

__all__ = ["Driven", "Show", "drive", "drive_one_by_one"]

#: Seconds between two lines that are shown.
_SHOWN_S = 1.0
#: An answer ends the wait, and so does the next request; otherwise it lasts so long, and Ctrl-C is seen.
_WAIT_S = 0.2
#: Answers that are taken in before it is looked again whether a request is due.
_AT_ONCE = 64

Show = Callable[[float, Loop], None]
"""Called about once a second, with the seconds from the beginning."""


@dataclass(frozen=True)
class Driven:
    """How a loop has ended."""

    seconds: float
    """From the beginning to its last answer, or to where it was left."""
    now: float
    """When it was left."""
    interrupted: bool


class _Stopping:
    """Whether SIGINT or SIGTERM has come. A second one ends the process as usual."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within the block, signals are heard here."""
        before = {number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def drive(
    loop: Loop, runner: Runner, stock: Stock, *, end_s: float, timeout_s: float, deadline_ms: float | None, show: Show
) -> Driven:
    """Run a loop to its end.

    Args:
        end_s: seconds after which no request is due any more; infinity if that is not known.
        timeout_s: how long to wait for answers: after `end_s`, and whenever none comes that is needed to go on.
        deadline_ms: of each request; None: that of the pipeline.
    """
    clock = time.perf_counter
    # No SimpleQueue: if a signal comes while its `get` waits, and the time is over then, CPython 3.11 waits for ever.
    answers: Queue[tuple[int, float, concurrent.futures.Future[Any] | PipelineError]] = Queue()
    stopping = _Stopping()

    def done(number: int, future: concurrent.futures.Future[Any]) -> None:
        answers.put((number, clock(), future))

    def send(number: int) -> None:
        try:
            future = runner.infer(stock.of(number), deadline_ms=deadline_ms)
        except PipelineError as error:
            answers.put((number, clock(), error))
        else:
            future.add_done_callback(partial(done, number))

    def collect(wait_s: float) -> bool:
        """Take in an answer; whether there was one."""
        try:
            number, at, how = answers.get(timeout=wait_s) if wait_s > 0 else answers.get_nowait()
        except Empty:
            return False
        loop.came(number, at - begin, _failure_of(how))
        return True

    with stopping.heard():
        begin = clock()
        shown, heard = 0.0, 0.0
        while not loop.over and not stopping.asked:
            now = clock() - begin
            if (number := loop.take(now)) is not None:
                send(number)
                wait_s = 0.0
            else:
                wait_s = min(loop.wait_s(now), _WAIT_S)
            for _ in range(_AT_ONCE):
                if not collect(wait_s):
                    break
                heard, wait_s = clock() - begin, 0.0
            now = clock() - begin
            if now >= shown + _SHOWN_S:
                shown = now
                show(now, loop)
            if not (loop.full or loop.sent_all):
                heard = now
            if now >= min(end_s, heard) + timeout_s:
                break
        now = clock() - begin
        interrupted = stopping.asked
    return Driven(now if interrupted or loop.outstanding else loop.tally.last_s, now, interrupted)


def drive_one_by_one(
    loop: Loop, runner: Runner, stock: Stock, *, timeout_s: float, deadline_ms: float | None, show: Show
) -> Driven:
    """Run a closed loop of one place in the way of a program that waits for each answer itself."""
    clock = time.perf_counter
    stopping = _Stopping()
    shown = 0.0
    with stopping.heard():
        begin = clock()
        while not stopping.asked and (number := loop.take(clock() - begin)) is not None:
            how: concurrent.futures.Future[Any] | PipelineError
            try:
                how = runner.infer(stock.of(number), deadline_ms=deadline_ms)
                how.result(timeout_s)
            except PipelineError as error:
                how = error
            now = clock() - begin
            loop.came(number, now, None if not isinstance(how, PipelineError) else _failure_of(how))
            if now >= shown + _SHOWN_S:
                shown = now
                show(now, loop)
        now = clock() - begin
    return Driven(loop.tally.last_s, now, stopping.asked and not loop.over)


def _failure_of(how: concurrent.futures.Future[Any] | PipelineError) -> Failure | None:
    error: BaseException | None
    if isinstance(how, PipelineError):
        error = how
    else:
        error = None
        try:
            error = how.exception(0)
        except (PipelineError, concurrent.futures.CancelledError) as raised:
            error = raised
    if error is None:
        return None
    return Failure(error.code if isinstance(error, RequestError) else type(error).__name__, str(error))
