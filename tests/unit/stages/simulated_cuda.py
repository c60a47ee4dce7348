"""A GPU that is simulated: streams, events, graphs and copies as CUDA has them, in an order that a seed decides.

Whatever is enqueued runs some time later, between other streams' operations; only what CUDA promises is kept: the
order within a stream, and waits for events. A network computes in two steps over its scratch, so that two which
share one spoil each other's rows unless something keeps them apart.
"""

from __future__ import annotations

import ctypes
import json
import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

#: When it may run, and what it does.
Operation = tuple[Callable[[], bool], Callable[[], None]]


class World:
    """Every stream of the GPU."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.streams: dict[int, deque[Operation]] = {}
        #: Where operations go instead of their stream.
        self.captured: list[Operation] | None = None
        self.memory: list[Any] = []

    def enqueue(self, stream: int, act: Callable[[], None], may: Callable[[], bool] = lambda: True) -> None:
        (self.streams[stream] if self.captured is None else self.captured).append((may, act))

    def ready(self) -> list[int]:
        """Streams whose next operation may run."""
        return [number for number, waiting in self.streams.items() if waiting and waiting[0][0]()]

    def step(self) -> bool:
        """Run one operation; False where none can."""
        if ready := self.ready():
            self.streams[self.dice.choice(ready)].popleft()[1]()
        return bool(ready)

    def some(self) -> None:
        for _ in range(self.dice.randrange(4)):
            self.step()

    def allocate(self, nbytes: int) -> int:
        self.memory.append(ctypes.create_string_buffer(b"\xee" * nbytes, nbytes))
        return ctypes.addressof(self.memory[-1])


class Stream:
    def __init__(self, world: World) -> None:
        self.world = world
        self.handle = 1000 + len(world.streams)
        world.streams[self.handle] = deque()

    def wait_for_event(self, event: Event) -> None:
        recorded = event.recorded
        self.world.enqueue(self.handle, lambda: None, lambda: event.reached >= recorded)

    def synchronize(self) -> None:
        while self.world.streams[self.handle]:
            assert self.world.step(), "streams wait for each other"


class Event:
    def __init__(self, world: World) -> None:
        self.world = world
        self.recorded = self.reached = 0

    def record(self, stream: Stream) -> None:
        self.recorded += 1
        number = self.recorded

        def reach() -> None:
            self.reached = max(self.reached, number)

        self.world.enqueue(stream.handle, reach)

    def query(self) -> bool:
        self.world.some()
        return self.reached == self.recorded

    def synchronize(self) -> None:
        while self.reached != self.recorded:
            assert self.world.step(), "streams wait for each other"


class Graph:
    """In place of `stages.engines.cuda.Graph`."""

    def __init__(self, world: World, stream: int, enqueue: Callable[[], None]) -> None:
        self.world, self.stream = world, stream
        world.captured = []
        enqueue()
        self.operations, world.captured = world.captured, None

    def launch(self) -> None:
        self.world.streams[self.stream].extend(self.operations)

    def close(self) -> None:
        self.operations = []


class Device:
    """In place of `stages.engines.cuda.Device`."""

    name, bus_id, memory, registered_bytes = "NVIDIA Simulated", "0000:00:00.0", (1 << 30, 1 << 31), 0

    def __init__(self, world: World) -> None:
        self.world = world
        self.copies = 0

    def allocate(self, nbytes: int, what: str) -> int:
        return self.world.allocate(nbytes)

    def allocate_pinned(self, nbytes: int) -> Any:
        return np.full(nbytes, 0xEE, np.uint8)

    def stream(self) -> Stream:
        return Stream(self.world)

    def event(self) -> Event:
        return Event(self.world)

    def upload(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self.copies += 1
        self.world.enqueue(stream, lambda: ctypes.memmove(target, source, nbytes) and None)

    download = upload

    def upload_rows(self, target: int, source: int, nbytes: int, pitch: int, rows: int, stream: int) -> None:
        self.copies += 1
        for row in range(rows):
            at, of = target + row * nbytes, source + row * pitch
            self.world.enqueue(stream, lambda at=at, of=of: ctypes.memmove(at, of, nbytes) and None)

    def download_rows(self, target: int, source: int, nbytes: int, pitch: int, rows: int, stream: int) -> None:
        self.copies += 1
        for row in range(rows):
            at, of = target + row * pitch, source + row * nbytes
            self.world.enqueue(stream, lambda at=at, of=of: ctypes.memmove(at, of, nbytes) and None)

    def register(self, memory: memoryview) -> None:
        """Pinned or not is the same here."""

    def unregister_all(self) -> None:
        """See `register`."""

    def close(self) -> None:
        assert not any(self.world.streams.values())


class Context:
    """An execution context of a network that gives, for 12 bytes x, y = [sum(x), x[0]], and total = sum(x) if it has it."""

    def __init__(self, world: World, batch: int) -> None:
        self.world, self.batch = world, batch
        self.device_memory = 0
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape == (self.batch, 12)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, 2)

    def execute_async_v3(self, stream: int) -> bool:
        nbytes = 12 * self.batch
        x, y, scratch = self.addresses["x"], self.addresses["y"], self.device_memory
        self.world.enqueue(stream, lambda: ctypes.memmove(scratch, x, nbytes) and None)

        def compute() -> None:
            rows = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(scratch), np.uint8).reshape(self.batch, 12)
            made = np.stack([rows.sum(axis=1), rows[:, 0]], axis=1).astype(np.float32)
            ctypes.memmove(y, made.ctypes.data, made.nbytes)
            if "total" in self.addresses:
                totals = made[:, 0].copy()
                ctypes.memmove(self.addresses["total"], totals.ctypes.data, totals.nbytes)

        self.world.enqueue(stream, compute)
        return True


def library(world: World) -> Any:
    """In place of the module `tensorrt`."""

    class Model:
        device_memory_size = 4096

        def __init__(self, content: bytes) -> None:
            self.batch = json.loads(content)

        def create_execution_context_without_device_memory(self) -> Context:
            return Context(world, self.batch)

    runtime = SimpleNamespace(deserialize_cuda_engine=Model)
    return SimpleNamespace(__name__="tensorrt", __version__="8.5.3.1", Runtime=lambda logger: runtime, Dims=tuple)
