"""Batches in plain memory for tests of stages, and their outputs.

    batch = run(Invert(), image=[a, b])
    assert (batch.result(1, "image") == 255 - b).all()

There is no process and no shared memory. `stages.stage.Batch` behaves as in a pipeline, copies included.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shm.elements import Elements, elements_of, stored_shape
from shm.handle import BYTES, JSON, nbytes_of, numpy_dtype
from shm.view import rows_of
from stages.batch import Array, Batch
from stages.errors import SpecMismatch
from stages.request import RequestInfo
from stages.spec import TensorSpec
from stages.stage import Stage

__all__ = ["MemoryBatch", "batch_of", "run"]


class MemoryBatch(Batch):
    """A batch whose outputs can be read. `batch_of` and `run` make it."""

    __slots__ = ("_given", "_memory", "_origins", "parts")

    def __init__(
        self,
        size: int,
        inputs: Mapping[str, Sequence[Any]],
        outputs: Mapping[str, TensorSpec],
        requests: Sequence[str | RequestInfo] = (),
        elements: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        super().__init__(size, inputs, outputs, self._give, self._give_many, self._requests_of, elements)
        self._origins = requests or [""] * size
        # As in a pipeline: a row's output lies at the start of a place for the largest tensor.
        self._memory = {name: np.zeros((size, spec.room), np.uint8) for name, spec in outputs.items()}
        self._given: dict[tuple[int, str], Any] = {}
        #: For each row the parts of its answer, if the stage yields them: outputs by name, as `result` gives them.
        self.parts: list[list[dict[str, Any]]] = [[] for _ in range(size)]

    def _requests_of(self) -> list[RequestInfo]:
        return [
            origin if isinstance(origin, RequestInfo) else RequestInfo(f"00000-{row + 1}", origin)
            for row, origin in enumerate(self._origins)
        ]

    def _give(self, row: int, name: str, shape: tuple[int, ...]) -> Array:
        spec = self._spec(name)
        view = _view(spec, self._memory[name][row], 0, shape)
        self._given[row, name] = _named(spec, view, shape)
        return view

    def _give_many(self, row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        spec, room = self._spec(name), self._memory[name][row]
        views = [_view(spec, room, offset, shape) for offset, shape in zip(spec.offsets(shapes), shapes)]
        self._given[row, name] = [_named(spec, view, shape) for view, shape in zip(views, shapes)]
        return views

    def take(self, returned: object) -> None:
        """Take what `process` has returned; if it is a generator, run it and keep its parts.

        Raises:
            SpecMismatch: as `finish` and `part`.
        """
        if not inspect.isgenerator(returned):
            self.finish(returned)
            return
        for yielded in returned:
            for row in self.part(yielded):
                self.parts[row].append({name: self.result(row, name) for name in self._outputs})
        self.end_parts()

    def result(self, row: int, name: str) -> Any:
        """What the stage wrote to one row's output: a copy of the array, or the value of a "json" output; for "bytes"
        an array of objects.

        For an output of many tensors it is a list of those.

        Raises:
            BaseException: the error with which the row failed.
            SpecMismatch: there is no such row or output, or it was not written.
        """
        row = self._row(row)
        if row in self.failed:
            raise self.failed[row]
        spec = self._spec(name)
        if (row, name) not in self._given:
            raise SpecMismatch(f"output {name!r} of row {row} was not written")
        given = self._given[row, name]
        if isinstance(given, list):
            return [_value(spec, array) for array in given]
        return _value(spec, given)


def batch_of(
    stage: Stage, requests: Sequence[str | RequestInfo] = (), /, **inputs: Sequence[Any]
) -> MemoryBatch:
    """A batch for `stage`: for each of its inputs, one value a row; "json" inputs are given as JSON values.

    If an input takes many tensors, a value is a list of them; None leaves out an optional input. Rows of equal
    shape lie side by side, others apart, as may happen in a pipeline.

    Args:
        stage: a stage's object.
        requests: one for each row, for `batch.requests`: names, or whole RequestInfos. Names get made-up ids.
        inputs: the values by the name of the input.

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
    size = sizes.pop()
    if requests and len(requests) != size:
        raise SpecMismatch(f"expected {size} requests, one for each row, found {len(requests)}")
    of_bytes = {spec.name for spec in stage.inputs if spec.dtype == BYTES}
    arrays = {name: values for name, values in rows.items() if name not in of_bytes}
    return MemoryBatch(size, arrays, outputs, requests, {name: rows[name] for name in of_bytes})


def run(stage: Stage, requests: Sequence[str | RequestInfo] = (), /, **inputs: Sequence[Any]) -> MemoryBatch:
    """`process` over `batch_of(stage, requests, **inputs)`; the caller calls `setup`.

    Read outputs with `result`; if the stage yields them, they are in `parts`.
    """
    batch = batch_of(stage, requests, **inputs)
    batch.take(stage.process(batch))
    return batch


def _view(spec: TensorSpec, room: Array, offset: int, shape: tuple[int, ...]) -> Array:
    """A view as that of a handle of this shape."""
    raw = room[offset : offset + nbytes_of(spec.dtype, shape)]
    return raw if spec.dtype == BYTES else raw.view(numpy_dtype(spec.dtype)).reshape(shape)


def _named(spec: TensorSpec, view: Array, shape: tuple[int, ...]) -> Array | Elements:
    return Elements(view, shape[:-1]) if spec.dtype == BYTES else view


def _value(spec: TensorSpec, given: Any) -> Any:
    if spec.dtype == BYTES:
        return given.decode()
    return json.loads(given.tobytes()) if spec.dtype == JSON else given.copy()


def _rows(spec: TensorSpec, values: Sequence[Any]) -> list[Any]:
    if spec.many is not None:
        lists = [list(value or ()) for value in values]
        for number, value in enumerate(lists):
            if len(value) > spec.many:
                raise SpecMismatch(f"input {spec}: row {number} has {len(value)}")
        return [[_one(spec, one) for one in value] for value in lists]
    if spec.dtype == BYTES or (spec.optional and any(value is None for value in values)):
        return [_one(spec, value) for value in values]
    arrays = [_array(spec, value) for value in values]
    if len({array.shape for array in arrays}) == 1:
        arrays = rows_of(np.stack(arrays))
    return [_read_only(array) for array in arrays]


def _one(spec: TensorSpec, value: Any) -> Any:
    if value is None:
        return None
    return _elements(spec, value) if spec.dtype == BYTES else _read_only(_array(spec, value))


def _elements(spec: TensorSpec, value: Any) -> Elements:
    try:
        array = elements_of(value)
    except (TypeError, ValueError) as error:
        raise SpecMismatch(f"input {spec.name!r}: {error}") from None
    if (why := spec.misfit(spec.dtype, stored_shape(array))) is not None:
        raise SpecMismatch(f"input {spec.name!r}: {why}")
    return Elements.of(array)


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _array(spec: TensorSpec, value: Any) -> Array:
    if spec.dtype == JSON:
        return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
    array = np.array(value, order="C")
    # As in a slot: dense, and in this machine's byte order.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if (why := spec.misfit(array.dtype.name, array.shape)) is not None:
        raise SpecMismatch(f"input {spec.name!r}: {why}")
    return array
