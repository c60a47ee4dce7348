"""Clients that threads share, and forks, signals, finalisers and the end of the program."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from pipeline.client.infer_future import InferFuture
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import (
    ClientMisuse,
    Overloaded,
    Unavailable,
)
from pipeline.testing import RunningPipeline
from tests.integration.sharing import LARGE, data_of

# -- forks ------------------------------------------------------------------------------------------


def test_a_child_of_a_fork_is_told_so_at_once_and_hurts_nothing(runner: InferRunner, client: SharedClient) -> None:
    # What other tests have left to the collector, such as models, may need threads for its end that a child has not.
    gc.collect()
    under_way = runner.infer(data=b"slow")
    answered = runner.infer(data=data_of(1, LARGE))
    answered.wait(200)
    busy = threading.Event()

    def work(_: int) -> None:
        while not busy.is_set():
            runner.infer(data=data_of(2)).get(200)

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(work, number) for number in range(3)]
        try:
            for _ in range(20):
                read, write = os.pipe()
                with _warnings_of_threads():
                    child = os.fork()
                if child == 0:
                    os.close(read)
                    _in_child(write, runner, client, under_way, answered)
                os.close(write)
                with os.fdopen(read, "rb") as pipe:
                    said = pipe.read().decode()
                assert os.waitpid(child, 0)[1] == 0
                assert said == "7 refused"
        finally:
            busy.set()
        for future in futures:
            future.result(200)
    assert under_way.get(200)["data"].tobytes() == b"slow"
    assert answered.get(200)["data"].tobytes() == data_of(1, LARGE)


def _warnings_of_threads() -> Any:
    # From Python 3.12 on, a fork of a process with threads warns.
    import warnings

    context = warnings.catch_warnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    return context


def _in_child(
    write: int, runner: InferRunner, client: SharedClient, under_way: InferFuture, answered: InferFuture
) -> None:
    signal.alarm(30)
    refused = 0
    try:
        for call in (
            lambda: runner.infer(data=b"x"),
            lambda: runner.infer_many([{"data": b"x"}]),
            lambda: runner.stream(data=b"x"),
            lambda: runner.loan(data=(1,)),
            under_way.get,
            answered.get,
            client.status,
        ):
            try:
                call()
            except ClientMisuse as error:
                refused += "connect in the child" in str(error)
        client.close()
        gc.collect()
    finally:
        os.write(write, f"{refused} refused".encode())
        os._exit(0)


# -- signals ----------------------------------------------------------------------------------------


class _Interrupt(Exception):
    pass


@pytest.mark.timeout(300, method="thread")  # the test has the signal of the other method
def test_interruptions_at_any_point_lose_nothing_of_any_thread(
    runner: InferRunner, client: SharedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise _Interrupt

    # What a handler raises within a callback of the interpreter's is shown and forgotten. pytest keeps it to show it later,
    # with frames that have results, and with them slots and descriptors of segments.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    stop = threading.Event()
    count = [0]

    def work(thread: int) -> None:
        while not stop.is_set():
            number = thread * 1_000_000 + count[0]
            assert runner.infer(data=data_of(number)).get(200)["data"].tobytes() == data_of(number)
            count[0] += 1

    # So that segments are open: what interrupts the opening of one before it can be noted leaves a descriptor.
    for size in (16, LARGE):
        runner.infer(data=data_of(0, size)).wait(200)
        runner.infer(data=data_of(0, size)).get(200)
    rng = np.random.default_rng(0)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = answered = misses = 0
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            others = [threads.submit(work, thread) for thread in range(2)]
            end = time.monotonic() + 2
            while time.monotonic() < end or answered <= 5 or interrupted <= 50 or count[0] <= 20:
                size = 16 if answered % 2 else LARGE
                try:
                    # On a slow machine none would be answered within a few milliseconds.
                    signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(0.00005, 0.004 + 0.001 * misses)))
                    future = runner.infer(data=data_of(answered, size))
                    result = future.get(200)
                    assert result["data"].tobytes() == data_of(answered, size)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    answered += 1
                    misses = 0
                except _Interrupt:
                    interrupted += 1
                    misses += 1
            stop.set()
            for other in others:
                other.result(200)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert client.wait_until_idle(60)


@pytest.mark.timeout(300, method="thread")
def test_a_handler_that_calls_is_answered_or_refused_and_never_waits_for_itself(runner: InferRunner) -> None:
    futures: list[tuple[int, InferFuture]] = []
    numbers = itertools.count()

    within: list[bool] = []

    def call(*_: Any) -> None:
        if within:
            # On a slow machine, signals come faster than they are dealt with.
            return
        within.append(True)
        number = next(numbers)
        with suppress(ClientMisuse, Overloaded):
            futures.append((number, runner.infer(data=data_of(number), block=False)))
        within.clear()

    before = signal.signal(signal.SIGALRM, call)
    rng = np.random.default_rng(0)
    try:
        for number in range(300):
            # Once each time: on a slow machine, signals would come faster than they are dealt with.
            signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(0.0001, 0.002)))
            assert runner.infer(data=data_of(number)).get(200)["data"].tobytes() == data_of(number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert futures
    for number, future in futures:
        assert future.get(200)["data"].tobytes() == data_of(number)


class _Finaliser:
    """Garbage whose end calls."""

    def __init__(self, runner: InferRunner, found: list[Any]) -> None:
        self.runner, self.found = runner, found
        self.itself = self

    def __del__(self) -> None:
        try:
            self.found.append(self.runner.infer(data=b"the last"))
        except ClientMisuse as error:
            self.found.append(error)


def test_finalisers_may_call_wherever_the_collector_runs(runner: InferRunner) -> None:
    found: list[Any] = []
    thresholds = gc.get_threshold()
    # What tests before have imported need not be looked at again and again.
    gc.freeze()
    gc.set_threshold(5)
    try:
        for number in range(100):
            _Finaliser(runner, found)
            loan = runner.loan(data=(8,))
            loan.__enter__()
            circle: list[Any] = [loan, runner.infer(data=data_of(number))]
            circle.append(circle)
            del loan, circle
            assert runner.infer(data=data_of(number)).get(200)["data"].tobytes() == data_of(number)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    gc.collect()
    assert len(found) == 100
    for future in found:
        if isinstance(future, InferFuture):
            assert future.get(200)["data"].tobytes() == b"the last"


# -- the end ----------------------------------------------------------------------------------------


def test_closing_fails_what_is_under_way_and_results_stay(late: RunningPipeline) -> None:
    client = SharedClient.connect(late.run_dir)
    runner = InferRunner(client)
    kept = runner.infer(data=data_of(3, LARGE)).get(200)
    unread = runner.infer(data=data_of(4, LARGE))
    assert unread.wait(200)
    futures = [runner.infer(data=b"slow") for _ in range(30)]
    client.close()
    client.close()
    for future in futures:
        with pytest.raises(Unavailable, match="closed before the request was answered"):
            future.get(200)
    for call in (lambda: runner.infer(data=b"x"), lambda: runner.loan(data=(1,)).__enter__(), client.status):
        with pytest.raises(ClientMisuse, match="this client is closed"):
            call()
    assert kept["data"].tobytes() == data_of(3, LARGE)
    assert unread.get(200)["data"].tobytes() == data_of(4, LARGE)
    assert not futures[0].cancel()


def test_a_thread_that_waits_for_room_is_told_of_the_end(late: RunningPipeline) -> None:
    client = SharedClient.connect(late.run_dir, pending=1)
    runner = InferRunner(client)
    found: list[Any] = []

    def work() -> None:
        try:
            while True:
                found.append(runner.infer(data=b"slow"))
        except ClientMisuse as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not client.io._rooms:
        time.sleep(0.01)
    client.close()
    thread.join(200)
    assert "closed" in str(found[-1])


def test_a_client_may_be_closed_by_a_callback_of_its_own(echo: RunningPipeline) -> None:
    client = SharedClient.connect(echo.run_dir)
    over = threading.Event()

    def close(_: Any) -> None:
        client.close()
        over.set()

    InferRunner(client).infer(data=b"x").add_done_callback(close)
    assert over.wait(200)
    client.io.thread.join(200)
    assert not client.io.thread.is_alive()


def test_a_client_that_is_dropped_is_closed_when_its_futures_are_done(echo: RunningPipeline) -> None:
    def drop() -> tuple[InferFuture, threading.Thread]:
        client = SharedClient.connect(echo.run_dir)
        return InferRunner(client).infer(data=b"slow"), client.io.thread

    future, thread = drop()
    gc.collect()
    assert future.get(200)["data"].tobytes() == b"slow"
    thread.join(200)
    assert not thread.is_alive()


def test_no_more_requests_are_taken_and_those_before_go_on(late: RunningPipeline) -> None:
    with SharedClient.connect(late.run_dir) as client:
        runner = InferRunner(client)
        futures = [runner.infer(data=data_of(number)) for number in range(50)]
        assert not client.wait_until_idle(0.01)
        client.refuse(Unavailable("it is being replaced"))
        with pytest.raises(Unavailable, match="it is being replaced"):
            runner.infer(data=b"x")
        assert client.wait_until_idle(60)
        for number, future in enumerate(futures):
            assert future.done()
            assert future.get()["data"].tobytes() == data_of(number)


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(3)",
        "raise KeyboardInterrupt",
        "del client, runner",
        "threading.Thread(target=lambda: [future.get() for future in futures]).start()",
        "os.fork() or sys.exit()",
    ],
)
def test_a_program_ends_with_requests_under_way(late: RunningPipeline, end: str) -> None:
    program = (
        "import os, sys, threading, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "from pipeline.client.shared import SharedClient\n"
        "from pipeline.client.runner import InferRunner\n"
        "client = SharedClient.connect(Path(sys.argv[1]))\n"
        "runner = InferRunner(client)\n"
        "futures = [runner.infer(data=b'slow' if n % 2 else b'x' * 100) for n in range(8)]\n"
        "stream = runner.stream(data=b'x')\n"
        f"{end}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, late.run_dir], capture_output=True, text=True, timeout=200, check=False
    )
    expected = {"sys.exit(3)": 3, "raise KeyboardInterrupt": -signal.SIGINT}.get(end, 0)
    complaint = ended.stderr if "KeyboardInterrupt" not in end else ""
    assert (ended.returncode, complaint) == (expected, "")


# -- closing ----------------------------------------------------------------------------------------


def test_a_close_that_is_interrupted_anywhere_leaves_no_other_thread_waiting(echo: RunningPipeline) -> None:
    interrupted = 0
    for line in itertools.count(1):
        client = SharedClient.connect(echo.run_dir, name="closing")
        future = InferRunner(client).infer(data=b"slow")
        seen = _interrupted_at(line, client.close)
        # Again, as at the end of a `with` block or of the program.
        client.close()
        with pytest.raises(Unavailable):
            future.get(200)
        client.io.thread.join(200)
        assert not client.io.thread.is_alive()
        if seen < line:
            break
        interrupted += 1
    assert interrupted > 10


def test_a_connect_that_is_interrupted_anywhere_leaves_no_thread(echo: RunningPipeline) -> None:
    interrupted = 0
    clients: list[SharedClient] = []
    before = {*threading.enumerate()}
    for line in itertools.count(1):
        seen = _interrupted_at(line, lambda: clients.append(SharedClient.connect(echo.run_dir, name="connecting")))
        if clients:
            clients.pop().close()
        for thread in {*threading.enumerate()} - before:
            thread.join(200)
            assert not thread.is_alive(), line
        if seen < line:
            break
        interrupted += 1
    assert interrupted > 50


def _interrupted_at(line: int, call: Callable[[], None]) -> int:
    """Make a call that is interrupted when so many lines of the client's code have been run; how many were."""
    seen = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal seen
        # Not in steps.py: a trace may raise behind the last line of a `with`, before its lock is free; a handler cannot.
        # Nor in a finaliser, which the collector may run at any line: what it raises is shown and forgotten.
        if "/pipeline/client/" not in frame.f_code.co_filename or "/steps.py" in frame.f_code.co_filename:
            return None
        if frame.f_code.co_name == "__del__":
            return None
        if event == "line":
            seen += 1
            if seen == line:
                raise _Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(_Interrupt):
            call()
    finally:
        sys.settrace(before)
    return seen


def test_a_client_does_not_leave_while_another_thread_writes_into_its_slot(
    echo: RunningPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    writing, go_on = threading.Event(), threading.Event()

    def slow_write(*_: object) -> None:
        writing.set()
        go_on.wait(200)
        order.append("written")

    client = SharedClient.connect(echo.run_dir, name="closing")
    leave = client.io.driver.leave

    def noted_leave(now: int) -> Any:
        order.append("left")
        return leave(now)

    runner = InferRunner(client)
    # So that a slot is in hand.
    runner.infer(data=b"x").get(200)
    monkeypatch.setattr("pipeline.client.io_thread.write", slow_write)
    monkeypatch.setattr(client.io.driver, "leave", noted_leave)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        sending = threads.submit(runner.infer, data=b"y")
        assert writing.wait(200)
        closing = threads.submit(client.close)
        while client.io.closed is None:
            time.sleep(0.001)
        time.sleep(0.05)
        go_on.set()
        closing.result(200)
        assert order == ["written", "left"]
        with pytest.raises(ClientMisuse, match="closed"):
            sending.result(200)
