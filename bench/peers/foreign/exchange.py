"""Exchange: the loop that drivers share, around what a peer does with a tensor.

    place ──▶ one memcpy, a stamp at both ends ──▶ submit ──▶ the peer ──▶ collect ──▶ both stamps are compared

Places are used again last in, first out, the warmest first, as the floors do.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Exchange", "TornTensor", "stamp_of"]

_MASK = (1 << 64) - 1


class TornTensor(RuntimeError):
    """An answer is torn, or belongs to no request in flight."""


def stamp_of(tensor: Any) -> bytes:
    """Its first and last eight bytes, which say whose answer it is."""
    return bytes(tensor[:8]) + bytes(tensor[-8:])


class Exchange(ABC):
    """A subject (see `bench.measure.Subject`): subclasses know the peer."""

    def setup(self, nbytes: int, window: int) -> None:
        """Start the peer, make the places, send one tensor around."""
        self._source = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
        self._seq = 0
        self._flying: dict[int, int] = {}
        self._free = list(range(window))
        self.start(nbytes, window)
        self._places = self.places(nbytes, window)
        self._send()
        while self._flying:
            self._take()

    def latency(self, seconds: float) -> list[float]:
        samples: list[float] = []
        clock = time.perf_counter
        end = clock() + seconds
        start = clock()
        while start < end:
            self._send()
            self.flush()
            while self._flying:
                self._take()
            now = clock()
            samples.append((now - start) * 1e6)
            start = now
        return samples

    def throughput(self, seconds: float, window: int) -> tuple[int, float]:
        clock, flying, requests = time.perf_counter, self._flying, 0
        start = clock()
        end = start + seconds
        while True:
            while len(flying) < window and clock() < end:
                self._send()
            self.flush()
            if not flying:
                return requests, clock() - start
            requests += self._take()

    def _send(self) -> None:
        self._seq = seq = self._seq + 1
        number = self._free.pop()
        place = self.place(number)
        words = place.view(np.uint64)
        np.copyto(place, self._source)
        words[0] = seq
        words[-1] = ~seq & _MASK
        self._flying[seq] = number
        self.submit(number, place)

    def _take(self) -> int:
        stamps = self.collect()
        for stamp in stamps:
            first, last = int.from_bytes(stamp[:8], "little"), int.from_bytes(stamp[8:], "little")
            number = self._flying.pop(first, None)
            if number is None or last != ~first & _MASK:
                raise TornTensor(f"expected the ends of a request in flight, found {stamp.hex()}")
            self._free.append(number)
        return len(stamps)

    def places(self, nbytes: int, window: int) -> Sequence[Any]:
        """Where the peer takes `window` tensors from: arrays of uint8. Here, the caller's own memory."""
        return [np.zeros(nbytes, np.uint8) for _ in range(window)]

    def place(self, number: int) -> Any:
        """The place that is filled next, for peers that give out a new one for each tensor."""
        return self._places[number]

    def flush(self) -> None:
        """Called after a burst of `submit`, for peers that gather."""
        return

    @abstractmethod
    def start(self, nbytes: int, window: int) -> None:
        """Start the peer."""

    @abstractmethod
    def submit(self, number: int, place: Any) -> None:
        """Hand the tensor of a place to the first stage."""

    @abstractmethod
    def collect(self) -> Sequence[bytes]:
        """Wait for at least one answer; the stamps of each."""

    @abstractmethod
    def close(self) -> None:
        """End the peer. Works after a failed `start`."""
