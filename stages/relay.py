"""Relay: a stage that passes on its tensor unchanged.

Benchmarks measure the cost of a hop with it, and tests build graphs of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.spec import TensorSpec
from stages.stage import Batch

__all__ = ["Relay"]


class Relay:
    """One tensor in, the same bytes out: the output is an alias, so no byte is read, written or copied.

    Args:
        name: name of the tensor, on both sides.
        dtype, shape, max: as in TensorSpec.
    """

    def __init__(
        self,
        name: str = "tensor",
        dtype: str = "uint8",
        shape: Sequence[int | str] = (602_112,),
        max: Mapping[str, int] | None = None,
    ) -> None:
        self.ragged = True
        self.inputs = (TensorSpec(name, dtype, tuple(shape), dict(max or {})),)
        self.outputs = (TensorSpec(name, dtype, tuple(shape), dict(max or {}), alias_of=name),)

    def process(self, batch: Batch) -> None:
        pass
