"""Batch: the requests that a stage computes together, as it sees them. The rest of the contract is in `stages.stage`.

The runtime makes one for each call of `process`, over views of the slots. What the stage writes or returns is checked
here, before anything reads it: a value that does not fit its spec, or an output that was forgotten, fails the rows that
it concerns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.elements import Elements, fill, stored_shape
from shm.errors import MalformedElements
from shm.handle import BYTES, JSON
from shm.view import side_by_side
from stages.conversion import encoded
from stages.copies import DECODED, ENCODED, GAPS, GATHERED, INPUT, OUTPUT, RETURNED, SCATTERED
from stages.errors import BadInput, SpecMismatch
from stages.request import RequestInfo
from stages.spec import TensorSpec, extents_of

__all__ = ["Array", "Batch"]

Array = NDArray[Any]


class Batch:
    """The requests that `process` computes together: one *row* each, as views into shared memory.

    Rows are in no promised order. Input views are read-only. Views are valid until `process` returns.
    In a stage behind one that fans out, a row is one child of a request.
    """

    __slots__ = (
        "_allocate", "_allocate_many", "_elements", "_failed", "_filled", "_inputs", "_late", "_outputs", "_requests",
        "_size", "copies",
    )  # fmt: skip

    def __init__(
        self,
        size: int,
        inputs: Mapping[str, Sequence[Any]],
        outputs: Mapping[str, TensorSpec],
        allocate: Callable[[int, str, tuple[int, ...]], Array],
        allocate_many: Callable[[int, str, Sequence[tuple[int, ...]]], list[Array]],
        requests: Callable[[], Sequence[RequestInfo]] | None = None,
        elements: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Made by the runtime (or by `stages.testing.batch_of` in a test).

        Args:
            size: number of rows.
            inputs: for each input that is not among `elements`, one array a row; a list of arrays if the input takes
                many, None if an optional one is missing.
            outputs: the stage's outputs that need memory, by name.
            allocate: (row, name, shape) -> the writable view of that output; called once for each
                row and name, or again if the shape is settled anew.
            allocate_many: (row, name, shapes) -> the writable views of an output of many tensors.
            requests: gives the request of each row; called once, if the stage asks. None: made up.
            elements: for each input of dtype "bytes" the same as `inputs`, with `shm.elements.Elements` as arrays.
                They are decoded if the stage asks for them.

        The shapes of outputs of dtype "bytes" are as `TensorSpec.stored_shape`.
        """
        self._size = size
        self._elements = elements
        self._inputs = inputs
        self._outputs = outputs
        self._allocate = allocate
        self._allocate_many = allocate_many
        self._requests: Callable[[], Sequence[RequestInfo]] | Sequence[RequestInfo] | None = requests
        self._failed: dict[int, BaseException] = {}
        self._filled: set[tuple[int, str]] = set()
        #: Scratch memory of an output, and the reason why it is needed.
        self._late: list[tuple[str, Array, str]] = []
        #: (side, tensor, reason) -> bytes that were copied; see `stages.copies`.
        self.copies: dict[tuple[str, str, str], int] = {}

    def __len__(self) -> int:
        return self._size

    @property
    def requests(self) -> Sequence[RequestInfo]:
        """For each row the request that it belongs to: its `id`, its `name`, and which `child` of it the row is."""
        found = self._requests
        if found is None:
            found = self._requests = [RequestInfo(f"00000-{row + 1}") for row in range(self._size)]
        elif callable(found):
            found = self._requests = found()
        return found

    # -- inputs ---------------------------------------------------------------------------------

    def rows(self, name: str) -> Sequence[Any]:
        """The input `name` of every row, never copied: an array of the spec's dtype and shape.

        For an input of many tensors a list of such arrays, one for each child, in order, perhaps none; and
        None in place of an array if an optional input is missing, since its stage was skipped.

        Of dtype "bytes" it is an array of objects, each of them a `bytes`: decoded when it is first asked for, which is
        counted as a copy.

        Raises:
            BadInput: the bytes of an input of dtype "bytes" are no such elements.
        """
        try:
            return self._inputs[name]
        except KeyError:
            pass
        return self._decode(name)

    # In a function of its own: the comprehension would make every call of `rows` slower.
    def _decode(self, name: str) -> Sequence[Any]:
        if self._elements is None or name not in self._elements:
            names = sorted({**self._inputs, **(self._elements or {})})
            raise SpecMismatch(f"no input {name!r}; this stage has {names}")
        decoded = [self._decoded(name, found) for found in self._elements[name]]
        self._inputs = {**self._inputs, name: decoded}
        return decoded

    def _decoded(self, name: str, found: Any) -> Any:
        if not isinstance(found, Elements):
            return None if found is None else [self._decoded(name, one) for one in found]
        try:
            array = found.decode()
        except MalformedElements as error:
            raise BadInput(f"input {name!r}: no elements of dtype bytes: {error}") from None
        self.count_copy(INPUT, name, DECODED, found.raw.nbytes)
        return array

    def document(self, row: int, name: str) -> Any:
        """The value of the "json" input `name` of one row; a list of values if it takes many, None if missing.

        Raises:
            SpecMismatch: there is no such row.
        """
        found = self.rows(name)[self._row(row)]
        if isinstance(found, list):
            return [None if one is None else json.loads(one.tobytes()) for one in found]
        return None if found is None else json.loads(found.tobytes())

    def stack(self, name: str, dense: bool = False) -> Array:
        """The input `name` of all rows as one array (len(batch), *shape).

        A view if the rows lie side by side, otherwise a gathered copy, which is counted.

        Args:
            name: the input.
            dense: the array must be C-contiguous, for code that takes a bare address; then rows with
                gaps between them are copied too. Neighbouring slots have no gap if their spec is static,
                they hold nothing else, and its size is a multiple of 64 bytes.

        Raises:
            BadInput: the rows are of different shapes.
        """
        views = self.rows(name)
        if any(not isinstance(view, np.ndarray) for view in views):
            raise SpecMismatch(f"input {name!r}: rows that are lists, or missing, cannot be stacked; use rows")
        view = side_by_side(views)
        if view is not None and (view.flags.c_contiguous or not dense):
            return view
        if len({v.shape for v in views}) > 1:
            raise BadInput(f"input {name!r}: rows of different shapes {sorted({v.shape for v in views})} in one batch")
        gathered = np.stack(views)
        # Arrays of objects have no place in a slot: what was copied is counted by `rows`.
        if not gathered.dtype.hasobject:
            self.count_copy(INPUT, name, GATHERED if view is None else GAPS, gathered.nbytes)
        return gathered

    # -- outputs --------------------------------------------------------------------------------

    def out(self, row: int, name: str, shape: tuple[int, ...] | None = None) -> Array:
        """The writable view of one row's output `name`; `shape` is needed if dimensions are free.

        Raises:
            SpecMismatch: there is no such row or output, it is of dtype "bytes", or `shape` does not fit its spec.
        """
        shape = self._shape_of(name, shape)
        row = self._row(row)
        self._filled.add((row, name))
        return self._allocate(row, name, shape)

    def out_rows(self, name: str, shape: tuple[int, ...] | None = None) -> list[Array]:
        """The writable views of every row's output `name`, all of one shape: `out` for each row, and quicker.

        Raises:
            SpecMismatch: as `out`.
        """
        shape = self._shape_of(name, shape)
        allocate, rows = self._allocate, range(self._size)
        self._filled.update([(row, name) for row in rows])
        return [allocate(row, name, shape) for row in rows]

    def out_many(self, row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """Writable views for one row's output `name` of many tensors: one for each of `shapes`, none for none.

        They are the request's children, in this order. Those of equal shape lie side by side in memory.

        Raises:
            SpecMismatch: there is no such row or output, it is not of many, or `shapes` are too many, too large or
                do not fit its spec.
        """
        spec = self._spec(name)
        if spec.many is None:
            raise SpecMismatch(f"output {spec} is of one tensor, not of many: use out")
        if spec.dtype == BYTES:
            raise SpecMismatch(_no_view(spec))
        return self._many_views(row, spec, [_extents(name, shape) for shape in shapes])

    def _many_views(self, row: int, spec: TensorSpec, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        name = spec.name
        if spec.many is not None and len(shapes) > spec.many:
            raise SpecMismatch(f"output {name!r}: expected at most {spec.many} tensors, found {len(shapes)}")
        for shape in shapes:
            if (why := spec.misfit(spec.dtype, shape)) is not None:
                raise SpecMismatch(f"output {name!r}: {why}")
        row = self._row(row)
        self._filled.add((row, name))
        return self._allocate_many(row, name, shapes)

    def stack_out(self, name: str, shape: tuple[int, ...] | None = None, dense: bool = False) -> Array:
        """One writable array (len(batch), *shape) for output `name` of all rows.

        A view if the rows lie side by side; otherwise scratch memory that is copied into the rows
        after `process` has returned, which is counted. `dense` as in `stack`. Asked again, it is settled anew.
        """
        self._late = [late for late in self._late if late[0] != name]
        views = self.out_rows(name, shape)
        view = side_by_side(views)
        if view is not None and (view.flags.c_contiguous or not dense):
            return view
        scratch = np.empty((self._size, *views[0].shape), views[0].dtype)
        self._late.append((name, scratch, SCATTERED if view is None else GAPS))
        return scratch

    def write(self, row: int, name: str, value: Any) -> None:
        """Put `value` into one row's output `name`: an array-like, or for "json" any JSON value.

        For an output of many tensors a sequence of them, one for each child. Arrays are copied, which is
        counted; a JSON value is encoded in its place in the slot, which is no copy. For "bytes" the array-like is of
        `bytes`, or of texts, which become UTF-8.

        Numbers of another dtype are converted if each keeps its value, or if floats lose no more than digits
        (float64 to float32, where the smallest become 0). A number that would be cut off, wrapped around or become
        infinite is refused. (An assignment to a view, `batch.out(...)[...] = numbers`, is numpy's, which asks nothing.)

        Raises:
            SpecMismatch: there is no such row, or the value does not fit the output's spec.
        """
        spec = self._spec(name)
        if spec.many is None:
            array = encoded(spec, value)
            if spec.dtype == BYTES:
                self._write_elements(row, spec, array)
                return
            self.out(row, name, array.shape)[...] = array
            self._count_returned(spec, array.nbytes)
            return
        if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes, bytearray, memoryview)):
            # A text is a sequence too, whose letters are not meant.
            raise SpecMismatch(f"output {name!r}: expected a list of tensors, found {type(value).__name__}")
        arrays = [encoded(spec, one) for one in value]
        if spec.dtype == BYTES:
            shapes = [stored_shape(array) for array in arrays]
            for raw, array in zip(self._many_views(row, spec, shapes), arrays):
                fill(raw, array)
                self.count_copy(OUTPUT, name, ENCODED, raw.nbytes)
            return
        for view, array in zip(self.out_many(row, name, [array.shape for array in arrays]), arrays):
            view[...] = array
        self._count_returned(spec, sum(array.nbytes for array in arrays))

    def _write_elements(self, row: int, spec: TensorSpec, array: Array) -> None:
        shape = stored_shape(array)
        if (why := spec.misfit(spec.dtype, shape)) is not None:
            raise SpecMismatch(f"output {spec.name!r}: {why}")
        row = self._row(row)
        self._filled.add((row, spec.name))
        raw = self._allocate(row, spec.name, shape)
        fill(raw, array)
        self.count_copy(OUTPUT, spec.name, ENCODED, raw.nbytes)

    def fail(self, row: int, error: BaseException | str) -> None:
        """Fail one row with `error`; the others go on. Its outputs need not be filled.

        Raises:
            SpecMismatch: there is no such row, or `error` is neither an exception nor a text.
        """
        if isinstance(error, str):
            error = BadInput(error)
        elif not isinstance(error, BaseException):
            raise SpecMismatch(f"fail(row, error): expected an exception or a text, found {error!r}")
        self._failed[self._row(row)] = error

    def _row(self, row: int) -> int:
        """The row as a plain number: stages count with numpy too.

        None is counted from the end: a stage that has miscounted would write into the answer of another request.
        """
        if type(row) is int and 0 <= row < self._size:
            return row
        try:
            # Of numpy before 2.3 a bool is a number, with a warning.
            number = None if isinstance(row, (bool, np.bool_)) else index(row)
        except TypeError:
            number = None
        if number is None or not 0 <= number < self._size:
            raise SpecMismatch(
                f"row {row!r:.80}: this batch has the rows 0 to {self._size - 1}, {self._size} in all; give the number "
                f"of one of them, as from `for row in range(len(batch))`"
            )
        return number

    def _shape_of(self, name: str, shape: tuple[int, ...] | None) -> tuple[int, ...]:
        """The shape of an output of one tensor, if it may be that."""
        spec = self._spec(name)
        if spec.many is not None:
            raise SpecMismatch(f"output {spec} is of many tensors: use out_many, or write with a list")
        if shape is None:
            if spec.dtype == BYTES:
                raise SpecMismatch(_no_view(spec))
            if not spec.is_static:
                raise SpecMismatch(f"output {spec} has free dimensions: give the shape, out(row, {name!r}, shape)")
            return spec.max_shape
        if spec.dtype == BYTES:
            raise SpecMismatch(_no_view(spec))
        shape = _extents(name, shape)
        if (why := spec.misfit(spec.dtype, shape)) is not None:
            raise SpecMismatch(f"output {name!r}: {why}")
        return shape

    def _spec(self, name: str) -> TensorSpec:
        try:
            return self._outputs[name]
        except KeyError:
            raise SpecMismatch(f"no output {name!r}; this stage has {sorted(self._outputs)}") from None

    # -- copies ---------------------------------------------------------------------------------

    def count_copy(self, side: str, name: str, reason: str, nbytes: int) -> None:
        """Count a copy that a stage, such as a stock stage, made on behalf of the runtime.

        Args:
            side: `copies.INPUT` or `copies.OUTPUT`.
            name: the tensor.
            reason: one of `copies.REASONS`.
            nbytes: bytes that were written.
        """
        if nbytes:
            key = (side, name, reason)
            self.copies[key] = self.copies.get(key, 0) + int(nbytes)

    @property
    def bytes_copied(self) -> int:
        """All bytes that were copied between this batch's slots and what the stage computed on."""
        return sum(self.copies.values())

    def _count_returned(self, spec: TensorSpec, nbytes: int) -> None:
        if spec.dtype != JSON:
            self.count_copy(OUTPUT, spec.name, RETURNED, nbytes)

    # -- for the worker that runs the stage -----------------------------------------------------

    @property
    def failed(self) -> Mapping[int, BaseException]:
        """The rows that `fail` was called for."""
        return self._failed

    def finish(self, returned: object) -> None:
        """Take what `process` returned and settle scratch outputs. Called once, by the runtime.

        Raises:
            SpecMismatch: something returned does not fit the stage's outputs, or an output of a row that did
                not fail was never asked for: its memory still holds what another request left there.
        """
        self._take(returned, partly=False)
        if len(self._filled) == self._size * len(self._outputs):
            return
        for name in self._outputs:
            for row in range(self._size):
                if row not in self._failed and (row, name) not in self._filled:
                    raise SpecMismatch(f"output {name!r} of row {row}: process neither filled nor returned it")

    def part(self, yielded: object) -> list[int]:
        """Take one part of the answers, which `process` has yielded; the rows that have one. Called by the runtime.

        Raises:
            SpecMismatch: something yielded does not fit the stage's outputs, or a row has some of them and not others.
        """
        self._take(yielded, partly=True)
        rows = sorted({row for row, _ in self._filled} - self._failed.keys())
        for name in self._outputs:
            for row in rows:
                if (row, name) not in self._filled:
                    raise SpecMismatch(f"output {name!r} of row {row}: other outputs of the row are in this part")
        self._filled.clear()
        self._late.clear()
        return rows

    def end_parts(self) -> None:
        """`process` has yielded the last part. Called by the runtime.

        Raises:
            SpecMismatch: something was written after the last `yield`.
        """
        for row, name in self._filled:
            if row not in self._failed:
                raise SpecMismatch(f"output {name!r} of row {row}: written after the last yield, so no part has it")

    def _take(self, returned: object, *, partly: bool) -> None:
        """Write what `process` has returned or yielded, and settle scratch outputs.

        Args:
            partly: None is no value, but says that a row has none this time.
        """
        if returned is not None:
            self._refuse_other(returned)
        for name, values in (returned.items() if isinstance(returned, Mapping) else ()):
            self._refuse_rowless(name, values)
            for row in range(self._size):
                if row not in self._failed and not (partly and values[row] is None):
                    self.write(row, name, values[row])
        for name, scratch, reason in self._late:
            for row in range(self._size):
                if row not in self._failed:
                    self.out(row, name, scratch.shape[1:])[...] = scratch[row]
                    self.count_copy(OUTPUT, name, reason, scratch[row].nbytes)

    def _refuse_other(self, returned: object) -> None:
        """Refuse what `process` may not return."""
        if isinstance(returned, Mapping):
            return
        found = _kind_of(returned)
        if not self._outputs:
            raise SpecMismatch(f"process returned {found}; expected None, for this stage has no outputs to fill")
        name = next(iter(self._outputs))
        others = f" (and the same for {', '.join(list(self._outputs)[1:])})" if len(self._outputs) > 1 else ""
        raise SpecMismatch(
            f"process returned {found}; expected None once every output is filled, by batch.out(row, {name!r}), "
            f"batch.stack_out({name!r}) or batch.write(row, {name!r}, value), or else a mapping "
            f"{{{name!r}: one value for each of the {self._size} rows}}{others}"
        )

    def _refuse_rowless(self, name: str, values: Any) -> None:
        """Refuse what is not one value a row."""
        spec = self._spec(name)
        if (
            isinstance(values, (str, bytes, Mapping))
            or not hasattr(values, "__getitem__")
            or not hasattr(values, "__len__")
            or getattr(values, "shape", None) == ()
        ):
            raise SpecMismatch(
                f"output {name!r}: expected a list or an array with one value for each of the {self._size} rows, "
                f"found {_kind_of(values)}"
            )
        if len(values) != self._size:
            one = f"; for a batch of one that is [value], with the row as its first axis, for {spec}"
            raise SpecMismatch(
                f"output {name!r}: expected {self._size} rows, found {len(values)}{one if self._size == 1 else ''}"
            )


def _no_view(spec: TensorSpec) -> str:
    return (
        f"output {spec} has no array to fill, for its elements are of any length: return them, or "
        f"batch.write(row, {spec.name!r}, elements)"
    )


def _extents(name: str, shape: Iterable[Any]) -> tuple[int, ...]:
    try:
        return extents_of(shape)
    except SpecMismatch as error:
        raise SpecMismatch(f"output {name!r}: {error}") from None


def _kind_of(value: object) -> str:
    """What a value is, for people."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype.name} {list(value.shape)}"
    name = type(value).__name__
    if name == "generator":
        return "a generator, so nothing has run: of all that it calls, only `process` itself may have a yield"
    if name in ("coroutine", "async_generator"):
        return f"a {name}, so nothing has run: it must be a plain function, without async and yield"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
