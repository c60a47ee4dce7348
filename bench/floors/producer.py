"""Producer, P: the producer and collector of a floor, in the measuring process itself.

    P -> relay 1 -> ... -> relay n -> P        handles (slot, seq); the tensors stay where they are

It fills slots, sends their handles, takes them back and checks every tensor. The subclass
decides how handles travel; it never looks at a tensor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bench.floors.slots import Slots, TornTensor, stride_of, unnamed_shared_memory
from bench.measure import Flow, SubjectDied

__all__ = ["SILENCE_S", "Handle", "RingFloor"]

Handle = Sequence[int]  # slot, seq

#: How long P waits for a handle before it checks whether the relays still live.
SILENCE_S = 1.0
_PATIENCE_S = 15.0
_NOT_LOANED = -1


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait: an exception of a handler in the middle of a `_connect` would leave unknown sockets and relays."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RingFloor(ABC):
    """A `bench.measure.Subject`: `relays` processes between P and P, over a ring of slots.

    Slots are reused last in, first out: the warmest first, as the pipeline's pool does.
    """

    def __init__(self, relays: int) -> None:
        self.relays = relays
        self._children: list[subprocess.Popen[bytes]] = []
        self._slots: Slots | None = None
        self._fd = -1

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the subject in tables."""

    def setup(self, nbytes: int, window: int) -> None:
        """Create `window` slots and the relays; send one tensor around, so that all relays run."""
        self._fd = unnamed_shared_memory(stride_of(nbytes) * window)
        self._slots = Slots(self._fd, nbytes, window)
        self._slots.prefault()
        self._source = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
        self._free = list(range(window))
        self._loans = [_NOT_LOANED] * window
        self._seq = 0
        with _undisturbed():
            self._children = self._connect(self._fd, nbytes, window)
        self._around()

    def latency(self, seconds: float) -> list[float]:
        samples: list[float] = []
        clock = time.perf_counter
        end = clock() + seconds
        start = clock()
        while start < end:
            self._around()
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return samples

    def throughput(self, seconds: float, window: int) -> Flow:
        slots, free, clock, fill, send = self._ready(), self._free, time.perf_counter, self._fill, self._send
        most = self._handles_per_message(window)
        flying = requests = 0
        start = clock()
        end = start + seconds
        while True:
            handles: list[Handle] = []
            while flying < window and clock() < end:
                handles.append(fill(slots, free.pop()))
                flying += 1
                if len(handles) == most:
                    send(handles)
                    handles = []
            if handles:
                send(handles)
            if not flying:
                return Flow(requests, clock() - start)
            returned = self._receive()
            self._collect(slots, returned)
            flying -= len(returned)
            requests += len(returned)

    def pids(self) -> list[int]:
        return [os.getpid(), *(child.pid for child in self._children)]

    def close(self) -> None:
        for child in self._children:
            child.kill()  # nothing that relays own outlives them
        for child in self._children:
            child.wait()
        self._children = []
        self._disconnect()
        if self._slots is not None:
            self._slots.close()
            self._slots = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _around(self) -> None:
        """One tensor filled, sent, taken back and checked."""
        slots = self._ready()
        self._send([self._fill(slots, self._free.pop())])
        self._collect(slots, self._receive())

    def _fill(self, slots: Slots, slot: int) -> Handle:
        self._seq = seq = self._seq + 1
        self._loans[slot] = seq
        slots.fill(slot, self._source, seq)
        return slot, seq

    def _collect(self, slots: Slots, handles: Sequence[Handle]) -> None:
        loans, free, check = self._loans, self._free, slots.check
        for slot, seq in handles:
            if loans[slot] != seq:
                raise TornTensor(f"slot {slot}: message {seq} came back, {loans[slot]} was out (-1: none)")
            check(slot, seq)
            loans[slot] = _NOT_LOANED
            free.append(slot)

    def _ready(self) -> Slots:
        if self._slots is None:
            raise RuntimeError(f"{self.name} is not set up: call setup() first")
        return self._slots

    def _silence(self, since: float) -> None:
        """Called if nothing came for `SILENCE_S`; the wait began at `since` (time.monotonic).

        Raises:
            SubjectDied: a relay is gone, or nothing has come for 15 s.
        """
        for child in self._children:
            if (status := child.poll()) is not None:
                raise SubjectDied(f"{self.name}: relay {child.pid} exited with status {status} in the middle of a run")
        if time.monotonic() - since > _PATIENCE_S:
            raise SubjectDied(f"{self.name}: no handle came back for {_PATIENCE_S:.0f} s though every relay lives")

    @abstractmethod
    def _handles_per_message(self, window: int) -> int:
        """How many slots P fills before it sends their handles, with `window` in flight."""

    @abstractmethod
    def _connect(self, fd: int, nbytes: int, window: int) -> list[subprocess.Popen[bytes]]:
        """Open the transport and start the relays."""

    @abstractmethod
    def _send(self, handles: Sequence[Handle]) -> None:
        """Hand filled slots to the first relay."""

    @abstractmethod
    def _receive(self) -> Sequence[Handle]:
        """Wait for at least one handle of the last relay, then take all that are there.

        Raises:
            SubjectDied: see `_silence`.
        """

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the transport, even if `_connect` failed half way."""
