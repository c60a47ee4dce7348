"""The socket between the keeper and a gateway."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from pipeline.serving.frames import Confirmed, Frame, ModelTold, RegionTold
from pipeline.serving.link import Link


class End:
    """One end, and what came to it."""

    def __init__(self, door: socket.socket) -> None:
        self.frames: list[Frame] = []
        self.descriptors: list[int] = []
        self.ends: list[str] = []
        self.link = Link(door, self._take, self.ends.append)

    def _take(self, frame: Frame, descriptor: int | None) -> None:
        self.frames.append(frame)
        if descriptor is not None:
            self.descriptors.append(descriptor)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30) if hasattr(asyncio, "timeout") else _Unlimited():
        while not true():
            await asyncio.sleep(0.001)


class _Unlimited:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def pair() -> tuple[End, End]:
    one, other = socket.socketpair()
    return End(one), End(other)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_frames_arrive_in_their_order_although_they_are_more_than_the_socket_holds() -> None:
    async def run() -> None:
        one, other = pair()
        sent: list[Frame] = [ModelTold(number, "m" * 100_000) for number in range(50)]
        for frame in sent:
            one.link.send(frame)
        await until(lambda: len(other.frames) == 50)
        assert other.frames == sent
        other.link.send(Confirmed(1))
        await until(lambda: one.frames)
        one.link.close()
        await until(lambda: other.ends)

    asyncio.run(run())


def test_each_descriptor_comes_with_its_frame(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = pair()
        for number in range(40):
            path = tmp_path / str(number)
            path.write_text(str(number))
            opened = os.open(path, os.O_RDONLY)
            one.link.send(ModelTold(number, "m" * (number * 997)))
            one.link.send(RegionTold(number, str(number), "/k", 0, 1), opened)
            # The link has its own copy.
            os.close(opened)
        await until(lambda: len(other.descriptors) == 40)
        regions = [frame for frame in other.frames if isinstance(frame, RegionTold)]
        for region, descriptor in zip(regions, other.descriptors):
            assert os.read(descriptor, 10).decode() == region.name
            assert not os.get_inheritable(descriptor)
            os.close(descriptor)
        one.link.close()
        other.link.close()

    before = descriptors()
    asyncio.run(run())
    assert descriptors() == before


def test_the_end_is_told_once_and_after_everything_that_was_sent() -> None:
    async def run() -> None:
        one, other = pair()
        one.link.send(Confirmed(1))
        one.link.close()
        one.link.close()
        await until(lambda: other.ends)
        assert other.frames == [Confirmed(1)]
        assert (len(one.ends), len(other.ends)) == (1, 1)
        other.link.send(Confirmed(2))
        one.link.send(Confirmed(3))

    asyncio.run(run())


def test_what_is_no_frame_ends_the_link_and_leaks_no_descriptor(tmp_path: Path) -> None:
    async def run() -> None:
        raw, door = socket.socketpair()
        end = End(door)
        with raw, (tmp_path / "x").open("w") as file:
            socket.send_fds(raw, [b"\x01\x00\x00\x00\xc1"], [file.fileno()])
            await until(lambda: end.ends)
        assert "no frame" in end.ends[0]
        # A region without its descriptor.
        one, other = pair()
        one.link.send(RegionTold(1, "r", "/k", 0, 1))
        await until(lambda: other.ends)
        assert other.frames == []
        one.link.close()

    before = descriptors()
    asyncio.run(run())
    assert descriptors() == before


def test_a_side_that_reads_nothing_is_given_up_and_its_memory_is_bounded() -> None:
    async def run() -> None:
        one, other = socket.socketpair()
        end = End(one)
        with other:
            for number in range(20):
                end.link.send(ModelTold(number, "m" * 4_000_000))
            assert end.ends == ["it does not read what it is told"]

    asyncio.run(run())
