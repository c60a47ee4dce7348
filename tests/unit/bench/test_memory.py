"""What is said of the memory that the processes of a run take."""

from __future__ import annotations

import os

import psutil
import pytest

from bench.memory import Memory, growth_lines, memory_by_kind, memory_growth, memory_of

MIB = 2**20


def test_what_fills_in_the_first_third_is_no_growth() -> None:
    fills = [(float(at), min(100.0, 10.0 * at)) for at in range(31)]
    assert memory_growth(fills) == pytest.approx(0.0)


def test_growth_is_bytes_each_second() -> None:
    assert memory_growth([(at, 1000 + 3 * at) for at in (0.0, 5.0, 10.0, 15.0)]) == pytest.approx(3.0)


def test_two_looks_are_enough() -> None:
    assert memory_growth([(0.0, 0), (8.0, 10), (9.0, 12)]) == pytest.approx(2.0)
    assert memory_growth([(0.0, 0), (4.0, 12)]) == pytest.approx(3.0)


def test_pages_of_segments_are_not_a_processs_own() -> None:
    areas = [("[heap]", 10, 10), ("[anon]", 20, 20), ("/usr/lib/libc.so.6", 3, 300), ("/dev/shm/trtlab-1", 0, 4000)]
    assert memory_by_kind(areas) == Memory(heap=10, mapped=23, shared=4000)


def test_a_block_that_a_process_fills_is_its_own() -> None:
    process = psutil.Process(os.getpid())
    before = memory_of(process)
    block = bytearray(64 * MIB)
    assert memory_of(process).own - before.own > 48 * MIB
    del block


def test_the_process_that_grows_fastest_comes_first_with_the_kind_of_its_growth() -> None:
    times = [0.0, 600.0, 1200.0, 1800.0]
    samples = {
        "scheduler": [(at, Memory(10 * MIB, 20 * MIB, 5 * MIB)) for at in times],
        "source/door": [(at, Memory(10 * MIB, (20 + round(at / 600)) * MIB, 5 * MIB)) for at in times],
    }
    assert growth_lines(samples) == [
        "own memory: 60.0 MiB, after 1800 s 63.0 MiB; after the first third +6.0 MiB/hour",
        "  source/door: 33.0 MiB, +6.0 MiB/hour (heap +0.0, mapped +6.0; shared +0.0)",
        "  scheduler: 30.0 MiB, +0.0 MiB/hour (heap +0.0, mapped +0.0; shared +0.0)",
    ]
