"""Pieces: a stage that answers a tensor piece by piece.

It shows what a stage looks like whose answer comes in parts, and such answers are tested with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from shm.layout import ceil_div, round_up
from stages.errors import BadOption
from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["Pieces"]


class Pieces:
    """One tensor in, an answer in several parts: its first `size` bytes, the next, and so on. An empty one has none.

    * Input `data`: uint8 of shape (bytes,), at most `max_bytes`.
    * Output `piece`: uint8 of shape (bytes,), at most `size` of them in each part.

    Args:
        size: bytes of a piece.
        max_bytes: the longest input.
        pause_ms: milliseconds to wait before each piece.
    """

    ragged = True

    def __init__(self, size: int = 64, max_bytes: int = 4096, pause_ms: float = 0.0) -> None:
        if size < 1:
            raise BadOption(f"size: expected at least 1 byte, found {size}")
        self._size = size
        self._pause_s = pause_ms / 1000
        self.inputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": max_bytes}),)
        # All pieces of a request lie in one slot, each at a multiple of ALIGNMENT.
        room = ceil_div(max_bytes, size) * round_up(size)
        self.outputs = (TensorSpec("piece", "uint8", ("bytes",), {"bytes": room}),)

    def process(self, batch: Batch) -> Iterator[None]:
        rows = batch.rows("data")
        for start in range(0, max(len(data) for data in rows), self._size):
            time.sleep(self._pause_s)
            for row, data in enumerate(rows):
                if start < len(data):
                    piece = data[start : start + self._size]
                    batch.out(row, "piece", piece.shape)[...] = piece
            yield
