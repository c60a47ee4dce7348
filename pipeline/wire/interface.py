"""Interface: what a client is told of a pipeline. It is all that a client is told.

The plan stays with the supervisor and its children. What a stage is given (`with:`), its environment, paths and
commands may hold what no client may read, such as an API key: a client may run in another container.
"""

from __future__ import annotations

from pipeline.wire.records import Record
from shm.handle import BYTES
from stages.spec import TensorSpec

__all__ = ["Axis", "Interface", "Tensor"]


class Axis(Record, frozen=True):
    """One axis of a tensor."""

    name: str
    """Of a free dimension; empty: the extent is always `most`."""
    most: int
    """The extent; of a free dimension the largest."""


class Tensor(Record, frozen=True):
    """An input or an output of a pipeline."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]
    """Those of the shape. Of dtype "bytes" there is one more at the end, whose name is `bytes`: how many bytes all
    elements take, as in `TensorSpec.stored_shape`."""

    @property
    def spec(self) -> TensorSpec:
        """The same as the value that checks shapes.

        Raises:
            SpecMismatch: no pipeline of this version has such a tensor.
        """
        shape = tuple([axis.name or axis.most for axis in self.axes])
        if self.dtype == BYTES:
            shape = shape[:-1]
        return TensorSpec(self.name, self.dtype, shape, {axis.name: axis.most for axis in self.axes if axis.name})

    @staticmethod
    def of(name: str, spec: TensorSpec) -> Tensor:
        """The tensor that a pipeline calls `name`, of that dtype and shape."""
        axes = [Axis("", each) if isinstance(each, int) else Axis(each, spec.max[each]) for each in spec.stored_shape]
        return Tensor(name, spec.dtype, tuple(axes))


class Interface(Record, frozen=True):
    """A pipeline as its clients see it."""

    name: str
    """Of the pipeline."""
    version: str
    """Of the model that the pipeline serves, in the sense of KServe."""
    inputs: tuple[Tensor, ...]
    """What a request carries, in this order."""
    outputs: tuple[Tensor, ...]
    """What an answer carries, in this order."""
    stages: tuple[str, ...]
    """The names of the stages, in the order in which an answer's trace numbers them."""
    max_batch_size: int = 0
    """Rows of the largest request that a gateway takes for it; 0: its tensors have no batch axis there."""
    in_parts: bool = False
    """Whether an answer may come in parts."""
    rows: int = 1
    """How many rows one request may carry (see `Submission.rows`). Above 1, all inputs and outputs are of fixed
    shapes."""

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The inputs by name."""
        return {tensor.name: tensor.spec for tensor in self.inputs}
