"""What a test of a stage needs: batches in plain memory, and what came out of them.

    batch = run(Invert(), image=[a, b])
    assert (batch.result(1, "image") == 255 - b).all()

No process, no shared memory. `stages.stage.Batch` behaves here as it does in a pipeline, copies included.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shm.handle import JSON
from stages.errors import SpecMismatch
from stages.spec import TensorSpec
from stages.stage import Array, Batch, Stage

__all__ = ["MemoryBatch", "batch_of", "run"]


class MemoryBatch(Batch):
    """A batch whose outputs can be read. Made by `batch_of` and `run`."""

    __slots__ = ("_given", "_memory")

    def __init__(self, size: int, inputs: Mapping[str, Sequence[Array]], outputs: Mapping[str, TensorSpec]) -> None:
        super().__init__(size, inputs, outputs, self._give)
        # As in a pipeline, a row's output lies at the start of room for the largest tensor.
        self._memory = {name: np.zeros((size, spec.max_nbytes), np.uint8) for name, spec in outputs.items()}
        self._given: dict[tuple[int, str], Array] = {}

    def _give(self, row: int, name: str, shape: tuple[int, ...]) -> Array:
        dtype = _numpy_dtype(self._spec(name))
        room = self._memory[name][row]
        view: Array = room[: dtype.itemsize * math.prod(shape)].view(dtype).reshape(shape)
        self._given[row, name] = view
        return view

    def result(self, row: int, name: str) -> Any:
        """What the stage wrote to one row's output: a copy of the array, or the value of a "json" output.

        Raises:
            BaseException: what the row failed with.
            SpecMismatch: there is no such output, or nothing was written.
        """
        if row in self.failed:
            raise self.failed[row]
        spec = self._spec(name)
        if (row, name) not in self._given:
            raise SpecMismatch(f"output {name!r} of row {row} was not written")
        array = self._given[row, name]
        return json.loads(array.tobytes()) if spec.dtype == JSON else array.copy()


def batch_of(stage: Stage, **inputs: Sequence[Any]) -> MemoryBatch:
    """A batch for `stage`: for each of its inputs, one value a row; "json" inputs are given as JSON values.

    Rows of equal shape lie side by side, others apart, as they may in a pipeline.

    Raises:
        SpecMismatch: inputs are missing, of different numbers, or do not fit the stage's specs.
    """
    if sorted(inputs) != sorted(spec.name for spec in stage.inputs):
        raise SpecMismatch(f"expected the inputs {[str(spec) for spec in stage.inputs]}, found {sorted(inputs)}")
    sizes = {len(values) for values in inputs.values()}
    if len(sizes) != 1:
        raise SpecMismatch(f"expected as many rows for each input, found {sorted(sizes)}")
    rows = {spec.name: _rows(spec, inputs[spec.name]) for spec in stage.inputs}
    outputs = {spec.name: spec for spec in stage.outputs if spec.alias_of is None}
    return MemoryBatch(sizes.pop(), rows, outputs)


def run(stage: Stage, **inputs: Sequence[Any]) -> MemoryBatch:
    """`process` over `batch_of(stage, **inputs)`; `setup` is the caller's. Read outputs with `result`."""
    batch = batch_of(stage, **inputs)
    batch.finish(stage.process(batch))
    return batch


def _rows(spec: TensorSpec, values: Sequence[Any]) -> list[Array]:
    arrays = [_array(spec, value) for value in values]
    if len({array.shape for array in arrays}) == 1:
        arrays = list(np.stack(arrays))
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _array(spec: TensorSpec, value: Any) -> Array:
    if spec.dtype == JSON:
        return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
    array = np.array(value)
    if (why := spec.misfit(array.dtype.name, array.shape)) is not None:
        raise SpecMismatch(f"input {spec.name!r}: {why}")
    return array


def _numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    return np.dtype(np.uint8 if spec.dtype == JSON else spec.dtype)
