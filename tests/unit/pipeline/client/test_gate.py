"""Gates: one thread waits until another one opens, and an interruption leaves nothing taken."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import pytest

from pipeline.client.gate import Gate, Gates


def test_a_gate_that_is_open_is_not_waited_at_and_opens_once() -> None:
    gate = Gate()
    assert not gate.wait(0)
    gate.open()
    gate.open()
    assert gate.wait()
    assert gate.wait(0)


def test_a_thread_goes_on_when_another_one_opens() -> None:
    gate, passed = Gate(), []
    thread = threading.Thread(target=lambda: passed.append(gate.wait(60)))
    thread.start()
    time.sleep(0.01)
    assert passed == []
    gate.open()
    thread.join(60)
    assert passed == [True]


@pytest.mark.timeout(300, method="thread")  # the test has the signal of the other method
def test_an_interrupted_wait_may_be_repeated() -> None:
    class Interrupt(Exception):
        pass

    def interrupt(_: int, frame: FrameType | None) -> None:
        # Nowhere else: what is raised in a finaliser, for example, is shown and forgotten.
        if frame is not None and frame.f_code is Gate.wait.__code__:
            raise Interrupt

    gate = Gate()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            with pytest.raises(Interrupt):
                gate.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gate.open()
    assert gate.wait(0)


def test_gates_open_in_turn_as_many_as_may() -> None:
    gates = Gates()
    first, second, third = gates.add(), gates.add(), gates.add()
    gates.drop(second)
    gates.drop(second)
    assert len(gates) == 2
    assert gates.open(1) == 1
    assert [gate.opened for gate in (first, second, third)] == [True, False, False]
    assert gates.open() == 1
    assert third.opened
    assert gates.open() == 0
    assert not second.opened


def test_the_longest_time_that_a_caller_may_give_is_no_error() -> None:
    gate = Gate()
    threading.Timer(0.05, gate.open).start()
    assert gate.wait(1e12)
