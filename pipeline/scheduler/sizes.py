"""Sizes: which class of slots a request is given, if a stage has several. Pure.

How large a stage's outputs are is known only when it has run. Until then the scheduler guesses that a request needs as
much as an earlier one whose inputs were about as large, that is, whose size in bytes has as many bits. If the inputs
are not made yet, it guesses what any request needed lately. If nothing is known, it takes the largest class.

A guess that was too small costs a second run of the stage. A guess that was too large costs memory that is there
already. So a guess grows at once. It shrinks after many requests in a row that needed less, to the most that one of
them needed:

    needed        0   0   2   0   1   0 ... 0   0 ... 0
    then guess    0   0   2   2   2   2 ... 1   1 ... 0
                              └── 16 of them ──┘
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.graph.compiled import NO_POOL, CompiledStage
from pipeline.wire.messages import MISSING, OK, TOO_SMALL, Notice
from shm.handle import TensorHandle
from shm.pool import SlotPool

if TYPE_CHECKING:
    from pipeline.scheduler.ledger import Request

__all__ = ["Sizes"]

_PATIENCE = 16
"""After this many requests in a row that needed less, a guess shrinks."""

_UNMADE = -1
"""In place of a number of bits: not all inputs are there."""


class _Guess:
    __slots__ = ("_less", "_most", "size")

    def __init__(self, size: int) -> None:
        #: Index of a class.
        self.size = size
        #: How many in a row needed less, and the most that one of them needed.
        self._less = 0
        self._most = 0

    def note(self, size: int) -> None:
        if size >= self.size:
            self.size, self._less, self._most = size, 0, 0
            return
        self._less += 1
        self._most = max(self._most, size)
        if self._less == _PATIENCE:
            self.size, self._less, self._most = self._most, 0, 0


class Sizes:
    """What has been learned of each stage.

    Args:
        stages: how many there are.
        pools: all pools of the plan.
    """

    def __init__(self, stages: int, pools: Sequence[SlotPool]) -> None:
        self._pools = pools
        #: By stage: the number of bits of the bytes of its inputs -> what they came to.
        self._guesses: list[dict[int, _Guess]] = [{} for _ in range(stages)]

    def pool_for(self, request: Request, stage: CompiledStage) -> int | None:
        """The pool whose slot a request will fill: the smallest that is large enough and has a free slot.

        Returns:
            The index of a pool; NO_POOL if the stage fills no slot, None if the request must wait for a slot.
        """
        pools = stage.pools
        if stage.by_rows:
            # The other kind of requests has the other pool to itself (see `pipeline.graph.pools`).
            pools = pools[1:] if request.rows > 1 else pools[:1]
        elif len(pools) > 1:
            pools = pools[self._wanted(request, stage) :]
        elif not pools:
            return NO_POOL
        for index in pools:
            if self._pools[index].free:
                return index
        return None

    def learn(self, stage: CompiledStage, notice: Notice) -> None:
        """A stage has run, or would have run in a larger slot: remember how many bytes its outputs take."""
        if notice.code not in (OK, TOO_SMALL):
            return
        size = _class_of(stage, notice.bytes_out)
        guesses = self._guesses[stage.index]
        for bits in (_UNMADE, notice.bytes_in.bit_length()):
            if (guess := guesses.get(bits)) is None:
                guesses[bits] = _Guess(size)
            else:
                guess.note(size)

    def need(self, request: Request, stage: CompiledStage, nbytes: int) -> None:
        """What a stage makes for this request takes at least `nbytes`: the request will get a slot that holds them."""
        request.sizes[stage.index] = _class_of(stage, nbytes)

    def _wanted(self, request: Request, stage: CompiledStage) -> int:
        known = request.sizes.get(stage.index)
        if known is not None:
            return known
        guess = self._guesses[stage.index].get(_bits(request, stage))
        return len(stage.pools) - 1 if guess is None else guess.size


def _class_of(stage: CompiledStage, nbytes: int) -> int:
    """The smallest class that holds so much; otherwise the largest, whose slots hold any outputs of the stage."""
    return next((at for at, size in enumerate(stage.slot_sizes) if nbytes <= size), len(stage.slot_sizes) - 1)


def _bits(request: Request, stage: CompiledStage) -> int:
    nbytes = 0
    for handle in request.inputs_of(stage)[0]:
        if isinstance(handle, TensorHandle):
            nbytes += handle.nbytes
        elif handle != MISSING:
            return _UNMADE
    return nbytes.bit_length()
