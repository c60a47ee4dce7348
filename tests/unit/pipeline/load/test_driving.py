"""A loop against a target, with a real clock and real threads."""

from __future__ import annotations

import concurrent.futures
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pipeline.errors import NotInTime, Overloaded, PipelineError
from pipeline.load.driving import Driven, drive, drive_one_by_one
from pipeline.load.inputs import Stock
from pipeline.load.loops import ClosedLoop, Loop, OpenLoop
from pipeline.load.schedule import Rate
from stages.spec import TensorSpec

Future = concurrent.futures.Future[Any]
STOCK = Stock([{"x": 0}, {"x": 1}], "x")


class Server:
    """Answers as the test says."""

    def __init__(self, answer: Callable[[Future, Any], None]) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def input_specs(self) -> Mapping[str, TensorSpec]:
        return {}

    def infer(self, inputs: Mapping[str, Any], /, *, deadline_ms: float | None) -> Future:
        self.asked.append(inputs["x"])
        future: Future = concurrent.futures.Future()
        self.answer(future, len(self.asked) - 1)
        return future


def at_once(future: Future, number: int) -> None:
    future.set_result(None)


def never(future: Future, number: int) -> None:
    pass


def run(loop: Loop, server: Server, **given: Any) -> Driven:
    options: dict[str, Any] = {"end_s": math.inf, "timeout_s": 30.0, "deadline_ms": None, "show": lambda now, loop: None}
    return drive(loop, server, STOCK, **{**options, **given})


def test_every_request_is_sent_once_and_each_takes_the_next_inputs() -> None:
    loop, server = OpenLoop(Rate(rate=200).times(0.1), 100, 1000), Server(at_once)
    driven = run(loop, server)
    assert server.asked == [0, 1] * 10
    assert (loop.tally.sent, loop.tally.answered, loop.over, driven.interrupted) == (20, 20, True, False)
    assert driven.seconds >= 0.095


def test_answers_of_other_threads_are_measured_when_they_come() -> None:
    def later(future: Future, number: int) -> None:
        threads.append(threading.Timer(0.05, future.set_result, (None,)))
        threads[-1].start()

    threads: list[threading.Timer] = []
    loop = OpenLoop(Rate(rate=100).times(0.1), 100, 1000)
    run(loop, Server(later))
    for thread in threads:
        thread.join()
    assert loop.tally.answered == 10
    assert loop.tally.latencies.percentile(10) >= 0.05


def test_a_sender_that_is_slow_is_late_and_its_lateness_is_in_the_latency() -> None:
    def slowly(future: Future, number: int) -> None:
        time.sleep(0.02)  # in `infer` itself, so that the next one cannot be sent
        future.set_result(None)

    loop = OpenLoop(Rate(rate=500).times(0.1), 100, 1000)
    run(loop, Server(slowly))
    assert loop.tally.answered == 50
    assert loop.tally.lateness.percentile(99) > 0.5
    assert loop.tally.latencies.percentile(99) > 0.5
    assert loop.tally.held.longest_s == 0


def test_what_infer_raises_and_what_a_future_fails_with_are_failures_by_their_kind() -> None:
    class Refusing(Server):
        def infer(self, inputs: Mapping[str, Any], /, *, deadline_ms: float | None) -> Future:
            future = super().infer(inputs, deadline_ms=deadline_ms)
            if len(self.asked) == 1:
                raise Overloaded("the queue is full")
            return future

    def fails(future: Future, number: int) -> None:
        if number == 1:
            future.set_exception(PipelineError("other"))
        elif number == 2:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(None)

    loop = OpenLoop(iter([0.0] * 4), 10, 10)
    run(loop, Refusing(fails))
    assert loop.tally.failures == {"Overloaded": 1, "PipelineError": 1, "CancelledError": 1}
    assert loop.tally.answered == 1


def test_behind_the_end_of_the_schedule_answers_are_waited_for_no_longer_than_the_time_limit() -> None:
    loop = OpenLoop(Rate(rate=100).times(0.1), 4, 1000)
    driven = run(loop, Server(never), end_s=0.1, timeout_s=0.2)
    assert (loop.outstanding, loop.tally.sent) == (4, 4)
    assert loop.unsent(driven.now) == 6
    # Three hundredths until four are outstanding, and none answers.
    assert 0.22 < driven.seconds == driven.now


def test_a_server_that_still_answers_is_waited_for_no_longer_either() -> None:
    def slowly(future: Future, number: int) -> None:
        threads.append(threading.Timer(0.05, future.set_result, (None,)))
        threads[-1].start()

    threads: list[threading.Timer] = []
    loop = OpenLoop(Rate(rate=1000).times(0.1), 1, 1000)
    driven = run(loop, Server(slowly), end_s=0.1, timeout_s=0.4)
    for thread in threads:
        thread.join()
    # 100 were due; one at a time, at most 10 can have been answered.
    assert loop.tally.sent <= 11
    assert loop.unsent(driven.now) == 100 - loop.tally.sent


def test_a_server_that_answers_nothing_at_all_ends_it_though_the_schedule_has_no_end() -> None:
    loop = OpenLoop(Rate(rate=100).times(), 2, 1_000_000)
    driven = run(loop, Server(never), timeout_s=0.3)
    assert (loop.outstanding, driven.interrupted) == (2, False)


def test_ctrl_c_ends_it_where_it_is() -> None:
    def answer(future: Future, number: int) -> None:
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        future.set_result(None)

    before = signal.getsignal(signal.SIGINT)
    loop = OpenLoop(Rate(rate=100).times(), 100, 1_000_000)
    driven = run(loop, Server(answer))
    assert driven.interrupted
    assert loop.tally.sent in (4, 5)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_wakes_a_generator_that_waits() -> None:
    loop = OpenLoop(Rate(rate=0.001).times(), 100, 1_000_000)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert run(loop, Server(never)).interrupted
    timer.join()


def test_a_second_ctrl_c_does_not_wait() -> None:
    def answer(future: Future, number: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(OpenLoop(Rate(rate=100).times(), 100, 1_000_000), Server(answer))


def test_the_line_is_shown_about_once_a_second() -> None:
    shown: list[float] = []
    run(OpenLoop(Rate(rate=50).times(2.3), 100, 1000), Server(at_once), show=lambda now, loop: shown.append(now))
    assert len(shown) == 2


def test_a_closed_loop_of_many_has_as_many_under_way() -> None:
    most, under_way = [0], [0]
    lock = threading.Lock()

    def answer(future: Future, number: int) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])

        def end() -> None:
            with lock:
                under_way[0] -= 1
            future.set_result(None)

        threads.append(threading.Timer(0.01, end))
        threads[-1].start()

    threads: list[threading.Timer] = []
    loop = ClosedLoop(4, 20)
    run(loop, Server(answer))
    for thread in threads:
        thread.join()
    assert (loop.tally.answered, most[0]) == (20, 4)


def one_by_one(count: int, server: Server, **given: Any) -> tuple[ClosedLoop, Driven]:
    loop = ClosedLoop(1, count)
    options: dict[str, Any] = {"timeout_s": 30.0, "deadline_ms": None, "show": lambda now, loop: None, **given}
    return loop, drive_one_by_one(loop, server, STOCK, **options)


def test_one_by_one_each_answer_is_waited_for() -> None:
    loop, driven = one_by_one(3, Server(at_once))
    assert (loop.tally.answered, loop.over, driven.interrupted) == (3, True, False)


def test_one_by_one_a_failure_is_counted_and_the_next_one_sent() -> None:
    def answer(future: Future, number: int) -> None:
        if number:
            future.set_result(None)
        else:
            future.set_exception(NotInTime("too late"))

    loop, _ = one_by_one(2, Server(answer))
    assert (loop.tally.failures, loop.tally.answered) == ({"NotInTime": 1}, 1)


def test_one_by_one_ctrl_c_ends_behind_the_request_under_way() -> None:
    def answer(future: Future, number: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        future.set_result(None)

    loop, driven = one_by_one(5, Server(answer))
    assert (loop.tally.answered, driven.interrupted) == (1, True)
