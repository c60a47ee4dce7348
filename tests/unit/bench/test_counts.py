"""What a request costs that does not depend on how busy the machine is: how it is read."""

from __future__ import annotations

import os

from bench.counts import counts_in, spent, threads_of


def test_counts_are_told_apart_by_the_call() -> None:
    text = "# started on Sun\n\n1200,,raw_syscalls:sys_enter,5,100.00,,\n400,,syscalls:sys_enter_getpid,5,100.00,,\n"
    assert counts_in(text + "<not counted>,,syscalls:sys_enter_poll,0,0.00,,\n") == {"all": 1200, "getpid": 400}


def test_the_main_thread_is_told_from_the_others() -> None:
    before = {"7": (1_000, 10), "8": (500, 1)}
    after = {"7": (21_000, 14), "8": (2_500, 3), "9": (4_000, 6)}
    assert spent(7, before, after, 2) == (10.0, 3.0, 6.0)


def test_a_process_sees_its_own_threads() -> None:
    mine = threads_of(os.getpid())
    assert mine[str(os.getpid())][0] > 0
