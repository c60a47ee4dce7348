from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from pipeline.client.alarm import Alarm

MS = 1_000_000


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    loop = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Rung:
    """An alarm, and how often it has rung."""

    def __init__(self) -> None:
        self.times = 0
        self.alarm = Alarm(asyncio.get_running_loop(), self._ring)

    def _ring(self) -> None:
        self.times += 1

    def set(self, descriptor: int | None, in_ms: int | None) -> None:
        now = time.monotonic_ns()
        self.alarm.set(descriptor, None if in_ms is None else now + in_ms * MS, now)


def test_it_rings_when_its_descriptor_has_input_until_that_is_unwatched(run: Any, pipe: tuple[int, int]) -> None:
    async def main() -> None:
        rung = Rung()
        for _ in range(2):
            rung.set(pipe[0], None)
        await asyncio.sleep(0.02)
        assert rung.times == 0
        os.write(pipe[1], b"x")
        while not rung.times:
            await asyncio.sleep(0.01)
        rung.alarm.unwatch(pipe[0])
        before = rung.times
        await asyncio.sleep(0.05)
        assert rung.times == before
        assert not asyncio.get_running_loop().remove_reader(pipe[0])
        # The number may be another descriptor's by now.
        rung.set(pipe[0], None)
        while rung.times == before:
            await asyncio.sleep(0.01)
        rung.alarm.unwatch(pipe[0])

    run(main())


def test_it_rings_once_at_the_earliest_time_that_was_set(run: Any) -> None:
    async def main() -> None:
        rung = Rung()
        rung.set(None, 3_600_000)
        rung.set(None, 10)
        # It rings at the earlier one all the same: the client sets it anew then.
        rung.set(None, 3_600_000)
        while not rung.times:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert rung.times == 1
        rung.set(None, 10)
        while rung.times < 2:
            await asyncio.sleep(0.005)

    run(main())


def test_it_does_not_ring_once_no_time_is_wanted_or_it_is_off(run: Any) -> None:
    async def main() -> None:
        rung = Rung()
        rung.set(None, 20)
        rung.set(None, None)
        other = Rung()
        other.set(None, 20)
        other.alarm.off()
        await asyncio.sleep(0.1)
        assert rung.times == other.times == 0

    run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_may_be_silenced_after_its_loop_is_closed(pipe: tuple[int, int], new_loop: Any) -> None:
    async def main() -> Alarm:
        rung = Rung()
        rung.set(pipe[0], 20)
        return rung.alarm

    loop = new_loop()
    alarm = loop.run_until_complete(main())
    loop.close()
    alarm.unwatch(pipe[0])
    alarm.off()
