"""Tensors: the inputs of a caller, which differ from each other, though no byte is written for any of them.

    0    64   128                          one block of random bytes
    |----|----|---- ... ----|----|----|
    [ tensor 0        ]
         [ tensor 1        ]
              [ tensor 2        ]          each begins 64 bytes behind the one before

So a thousand tasks have a thousand tensors to send, in the memory of one. Which one an answer is shows in its first and
last 8 bytes.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.floors.slots import TornTensor

__all__ = ["COUNT", "Tensor", "Tensors"]

COUNT = 4096
"""How many tensors there are before the first one comes again. More than may be under way at any time."""

_STEP = 64
_WORD = 8


class Tensor(NamedTuple):
    """What a caller sends, and what its answer must be."""

    array: NDArray[np.uint8]
    stamp: bytes

    def check(self, answer: NDArray[np.uint8]) -> None:
        """
        Raises:
            TornTensor: `answer` is torn, or is the answer to another request.
        """
        if answer.shape != self.array.shape or _stamp(answer) != self.stamp:
            raise TornTensor(
                f"expected {self.array.shape} with the ends {self.stamp.hex()}, "
                f"found {answer.shape} with {_stamp(answer).hex()}"
            )


class Tensors:
    """Tensors of one size, in turn, for any number of threads.

    Args:
        nbytes: of each.
    """

    def __init__(self, nbytes: int) -> None:
        block = np.random.default_rng(nbytes).integers(0, 256, nbytes + _STEP * COUNT, np.uint8)
        block.flags.writeable = False
        views = [block[first : first + nbytes] for first in range(0, _STEP * COUNT, _STEP)]
        self._turn = itertools.cycle([Tensor(view, _stamp(view)) for view in views])

    def next(self) -> Tensor:
        """The next one."""
        return next(self._turn)


def _stamp(array: NDArray[np.uint8]) -> bytes:
    return array[:_WORD].tobytes() + array[-_WORD:].tobytes()
