"""When a receiver looks before it sleeps: after waits that were short, and never while nothing comes."""

from __future__ import annotations

from pipeline.wire.spinning import SPIN_NS, Spinning

SHORT, LONG = SPIN_NS // 2, 50 * SPIN_NS


def wait(spinning: Spinning, took: int, *, found: bool = True) -> bool:
    """One wait that took so long; whether it began with looking."""
    begins = spinning.begins(1000)
    spinning.ended(found, 1000 + took)
    return begins


def test_it_looks_once_half_of_the_last_eight_waits_were_short() -> None:
    spinning = Spinning()
    assert [wait(spinning, SHORT) for _ in range(6)] == [False] * 4 + [True] * 2
    # Six short ones are among the last eight until two of them have gone, and two more.
    assert [wait(spinning, LONG) for _ in range(6)] == [True] * 5 + [False]


def test_a_sleep_counts_as_one_that_looking_would_have_spared_if_it_ended_soon() -> None:
    spinning = Spinning()
    for _ in range(4):
        # A part of it was the waking up.
        assert not wait(spinning, 2 * SPIN_NS - 1)
    assert spinning.begins(0)
    late = Spinning()
    for _ in range(8):
        assert not wait(late, 2 * SPIN_NS)


def test_it_looks_for_a_bounded_time() -> None:
    spinning = Spinning()
    spinning.begins(1000)
    assert spinning.goes_on(1000 + SPIN_NS - 1)
    assert not spinning.goes_on(1000 + SPIN_NS)


def test_a_receiver_to_which_nothing_comes_sleeps_at_once() -> None:
    spinning = Spinning()
    for _ in range(8):
        wait(spinning, SHORT)
    # A wait of no time at all that brought nothing is no sign that looking pays.
    assert [wait(spinning, SHORT, found=False) for _ in range(8)] == [True] * 5 + [False] * 3
