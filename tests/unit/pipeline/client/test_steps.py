"""Steps: one at a time, in one process, and one that was interrupted is put in order by the next."""

from __future__ import annotations

import os
import threading

import pytest

from pipeline.client.steps import Steps, step
from pipeline.errors import ClientMisuse, Unavailable


class Counted(Steps):
    """Counts its steps, and how often it was put in order."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.Thread()
        self.mended = 0
        self.error: BaseException | None = None

    def mend(self) -> None:
        self.mended += 1

    @step
    def count(self, number: int = 1, *, more: int = 0) -> int:
        """A step."""
        if self.error is not None:
            raise self.error
        return number + more

    @step
    def nested(self) -> int:
        """What a signal's handler does that calls in the middle of a step."""
        return self.count()


def test_a_step_gives_what_the_method_gives_and_leaves_nothing_to_mend() -> None:
    steps = Counted()
    assert steps.count(2, more=3) == 5
    assert (steps.torn, steps.mended) == (False, 0)


def test_a_step_that_was_interrupted_is_mended_once_before_the_next() -> None:
    steps = Counted()
    steps.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        steps.count()
    assert (steps.torn, steps.mended) == (True, 0)
    steps.error = None
    assert (steps.count(), steps.count(), steps.mended) == (1, 1, 1)


def test_an_error_of_the_clients_own_leaves_nothing_to_mend() -> None:
    steps = Counted()
    steps.error = Unavailable("why")
    with pytest.raises(Unavailable):
        steps.count()
    assert not steps.torn


def test_a_closed_client_is_not_mended() -> None:
    steps = Counted()
    steps.torn, steps.closed = True, Unavailable("closed")
    assert steps.count() == 1
    assert steps.mended == 0


def test_a_call_in_the_middle_of_a_step_is_refused() -> None:
    steps = Counted()
    with pytest.raises(ClientMisuse, match="signal"):
        steps.nested()


def test_steps_of_other_threads_wait_for_their_turn() -> None:
    steps = Counted()
    counted: list[int] = []
    thread = threading.Thread(target=lambda: counted.append(steps.count()))
    with steps.mutex:
        thread.start()
        thread.join(0.05)
        assert counted == []
    thread.join(30)
    assert counted == [1]


def test_the_child_of_a_fork_makes_no_step_and_waits_for_no_mutex() -> None:
    steps = Counted()
    steps.process = os.getpid() + 1
    # Of a thread that the child does not have.
    holder = threading.Thread(target=steps.mutex.acquire)
    holder.start()
    holder.join()
    with pytest.raises(ClientMisuse, match="connect in the child"):
        steps.count()
    with pytest.raises(ClientMisuse, match="connect in the child"):
        steps.refuse_waiting()


def test_its_own_thread_may_not_wait_and_any_other_may() -> None:
    steps = Counted()
    steps.refuse_waiting()
    steps.thread = threading.current_thread()
    with pytest.raises(ClientMisuse, match="a done-callback waits for an answer of its own client"):
        steps.refuse_waiting()


def test_a_client_that_takes_no_requests_may_be_waited_for_and_a_closed_one_may_not() -> None:
    steps = Counted()
    steps.refuse_closed()
    steps.refused = Unavailable("unloaded")
    with pytest.raises(Unavailable, match="unloaded") as refused:
        steps.refuse_closed()
    # Another object each time: an exception refers to the frames that it passes.
    assert refused.value is not steps.refused
    steps.refuse_closed_only()
    steps.closed = ClientMisuse("closed")
    with pytest.raises(ClientMisuse, match="closed"):
        steps.refuse_closed_only()
    # Why it was refused before says more.
    with pytest.raises(Unavailable, match="unloaded"):
        steps.refuse_closed()
