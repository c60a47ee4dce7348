"""Inputs of a request: a caller's values as arrays of the pipeline's specs, and where they lie in a slot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InvalidRequest
from pipeline.wire import traceparent
from pipeline.wire.documents import document_bytes
from pipeline.wire.limits import LOWEST_PRIORITY
from pipeline.wire.messages import SlotRef
from shm.elements import elements_of, fill, stored_shape
from shm.handle import BYTES, ENCODED, JSON, TensorHandle, nbytes_of, numpy_dtype
from shm.layout import round_up
from shm.view import SegmentTable
from stages.errors import SpecMismatch
from stages.hints import nearest
from stages.spec import TensorSpec, extents_of

__all__ = [
    "Layout", "Layouts", "arrays_of", "checked_traceparent", "fill_in", "given_of", "lay_out", "lay_out_arrays",
    "limit_of", "misfit_of", "parts_of", "stored_shapes", "unchanging", "write",
]  # fmt: skip

_LONGEST_S = 1e7
#: The bound only prevents a caller of ever new shapes from filling memory.
_KNOWN_LAYOUTS = 1024
_LONGEST_DEADLINE_MS = 86_400_000.0
#: Of `InferRunner.infer`, as a caller may misspell them.
_ARGUMENTS = ("deadline_ms", "priority", "retries", "block")

Array = NDArray[Any]


class Layout(NamedTuple):
    """Where the inputs of a request lie in a slot."""

    places: list[tuple[int, str, tuple[int, ...]]]
    """(offset, dtype, shape) of each input."""
    nbytes: int
    """Of all of them."""
    rows: int = 0
    """How many rows of a batch they are; 0: they are no batch, and have no axis of rows."""


def given_of(specs: Mapping[str, TensorSpec], inputs: object, keywords: dict[str, Any]) -> dict[str, Any]:
    """A caller's values for all inputs, as one mapping, so that an input may have the name of a parameter of the call.

    Args:
        inputs: a mapping by input name, or None.
        keywords: the same by keyword. `inputs` among them is the mapping too, unless the pipeline has an input of that
            name: then it is that input.

    Raises:
        InvalidRequest: `inputs` is no mapping, or an input is given twice.
    """
    if "inputs" in keywords and "inputs" not in specs:
        if inputs is not None:
            raise InvalidRequest("two mappings of inputs were given, one of them by `inputs=`; give one")
        keywords = {**keywords}
        inputs = keywords.pop("inputs")
    if inputs is None:
        return keywords
    if not isinstance(inputs, Mapping):
        raise InvalidRequest(
            f"inputs: expected a mapping such as {{{next(iter(specs), 'name')!r}: ...}}, found {type(inputs).__name__}"
        )
    if twice := [name for name in keywords if name in inputs]:
        raise InvalidRequest(
            f"input {twice[0]!r} was given twice, in the mapping `inputs` and by keyword; give it once"
        )
    return {**inputs, **keywords}


def arrays_of(specs: Mapping[str, TensorSpec], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays by input name: of arrays and what numpy makes arrays of, of bytes, and of JSON values. For inputs of dtype
    "bytes" they are arrays of objects, each of them a `bytes`; texts become UTF-8.

    Raises:
        InvalidRequest: an input is missing or unknown, or a value has another dtype than its input, or no JSON form.
    """
    # First: the advice on a value would mislead if it is the name that is wrong.
    _refuse_other_names(specs, inputs)
    arrays: dict[str, Array] = {}
    for name, value in inputs.items():
        spec = specs[name]
        if spec.dtype == JSON:
            try:
                arrays[name] = np.frombuffer(document_bytes(value), np.uint8)
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidRequest(f"input {name!r}: no JSON value: {error}") from error
        elif spec.dtype == BYTES:
            try:
                arrays[name] = elements_of(value)
            except (TypeError, ValueError) as error:
                raise InvalidRequest(f"input {name!r}: {error}") from error
        elif isinstance(value, (bytes, bytearray)) or (isinstance(value, memoryview) and _is_dense(value)):
            arrays[name] = np.frombuffer(value, np.uint8)
        else:
            _refuse_no_data(name, value)
            arrays[name] = _array_of(name, value)
        found = arrays[name].dtype
        # The name is asked for last: numpy makes it anew each time.
        if spec.dtype not in ENCODED and found != numpy_dtype(spec.dtype) and found.name != spec.dtype:
            how = _conversion(spec.dtype, found, value)
            raise InvalidRequest(f"input {name!r}: expected dtype {spec.dtype}, found {found.name}{how}")
    return arrays


def stored_shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """The shapes that the handles of these arrays of `arrays_of` have (see `TensorSpec.stored_shape`)."""
    return {name: stored_shape(array) if array.dtype.hasobject else array.shape for name, array in arrays.items()}


def fill_in(views: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
    """Write arrays of `arrays_of` into their views, which have the shapes of `stored_shapes`."""
    for name, array in arrays.items():
        write(views[name], array)


def write(view: Array, array: Array) -> None:
    """Write one of them."""
    if array.dtype.hasobject:
        fill(view, array)
    else:
        view[...] = array


def unchanging(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """The same values in memory that the caller cannot change, and how many bytes were copied for it."""
    kept: dict[str, Array] = {}
    copied = 0
    for name, array in arrays.items():
        base: object = array.base
        if isinstance(base, bytes):
            kept[name] = array
        else:
            kept[name] = np.array(array)
            copied += array.nbytes
    return kept, copied


def _array_of(name: str, value: object) -> Array:
    """An array over the caller's memory, if that can be had; what has only `__dlpack__` is taken too.

    Raises:
        InvalidRequest: numpy makes no array of it.
    """
    if type(value) is np.ndarray:
        return value
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        # Such as a tensor of a GPU, which says itself how it is copied to the host.
        raise InvalidRequest(f"input {name!r}: no array: {error}") from error


def _is_dense(value: memoryview) -> bool:
    """Whether its bytes lie one after the other, so that they can be taken whatever the elements are."""
    try:
        return value.c_contiguous
    except ValueError:
        # It was released; numpy says so.
        return False


def _refuse_no_data(name: str, value: object) -> None:
    """
    Raises:
        InvalidRequest: it is what names a file, or nothing, and not the data.
    """
    if isinstance(value, (str, PurePath)):
        how = "; of a file that is Path(...).read_bytes()"
    elif hasattr(value, "read") and not hasattr(value, "__array__"):
        how = "; of a file that was opened with \"rb\" that is its read()"
    elif value is None:
        how = ""
    else:
        return
    raise InvalidRequest(f"input {name!r}: expected bytes or an array, found {type(value).__name__}{how}")


def _conversion(expected: str, found: np.dtype[Any], value: object) -> str:
    """The end of a message: how to convert. Nothing is converted unasked, since values may be lost by it."""
    if found.kind not in "biufc":
        return ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'; if the bytes are such numbers, write np.frombuffer(..., "{expected}").reshape(...)'
    line = f'.astype("{expected}")'
    if not hasattr(value, "astype"):
        # A list, or a tensor of another library.
        line = f"np.asarray(...){line}"
    return f"; write {line}" if np.can_cast(found, expected, "same_kind") else f"; if its values fit, write {line}"


def lay_out(specs: Mapping[str, TensorSpec], shapes: Mapping[str, Any], most: int = 1) -> Layout:
    """Where inputs of these shapes lie in a slot.

    Args:
        shapes: as `TensorSpec.stored_shape`; those of a batch have one axis more, in front.
        most: how many rows one request may carry.

    Raises:
        InvalidRequest: an input is missing or unknown, or a shape does not fit its spec.
    """
    _refuse_other_names(specs, shapes)
    extents = {}
    for name in specs:
        try:
            extents[name] = extents_of(shapes[name])
        except SpecMismatch as error:
            raise InvalidRequest(f"input {name!r}: {error}") from None
    return _lay_out(specs, extents, most)


class Layouts:
    """`lay_out` for one pipeline's inputs, which remembers: most requests are laid out like those before them.

    Args:
        specs, most: as there.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], most: int) -> None:
        self._specs = specs
        self._most = most
        self._known: dict[tuple[tuple[str, tuple[int, ...]], ...], Layout] = {}

    def of(self, shapes: Mapping[str, Any]) -> Layout:
        """Where inputs of these shapes lie in a slot. Raises as `lay_out`."""
        key = _plain(shapes)
        if key is None:
            return lay_out(self._specs, shapes, self._most)
        layout = self._known.get(key)
        if layout is None:
            layout = lay_out(self._specs, shapes, self._most)
            if len(self._known) >= _KNOWN_LAYOUTS:
                self._known.clear()
            self._known[key] = layout
        return layout


def _plain(shapes: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """The shapes as a key; None if one is no tuple of plain ints: others may equal such a tuple, as (1.0,) does."""
    for shape in shapes.values():
        if type(shape) is not tuple:
            return None
        for extent in shape:
            if type(extent) is not int:
                return None
    return tuple(shapes.items())


def parts_of(
    table: SegmentTable, names: Iterable[str], slot: SlotRef, layout: Layout
) -> tuple[tuple[TensorHandle, ...], dict[str, Array]]:
    """The handles and the writable arrays of the inputs in a granted slot.

    Args:
        names: of the inputs.

    Raises:
        HandleRefused: the slot is not what the grant says.
    """
    segment, number, generation = slot
    handles = tuple([TensorHandle(segment, number, generation, *where) for where in layout.places])
    # Arrays of the draft's own, so that they can be made read-only.
    return handles, {name: table.view(handle, writable=True)[...] for name, handle in zip(names, handles)}


def lay_out_arrays(specs: Mapping[str, TensorSpec], arrays: Mapping[str, Array], most: int = 1) -> Layout:
    """As `lay_out`, of arrays of `arrays_of`."""
    _refuse_other_names(specs, arrays)
    return _lay_out(specs, stored_shapes(arrays), most)


def _lay_out(specs: Mapping[str, TensorSpec], shapes: Mapping[str, tuple[int, ...]], most: int) -> Layout:
    offset = 0
    layout: list[tuple[int, str, tuple[int, ...]]] = []
    rows = _rows_of(specs, shapes, most) if most > 1 else 0
    for name, spec in specs.items():
        shape = shapes[name]
        if rows:
            if (why := spec.misfit(spec.dtype, shape[1:])) is not None:
                raise InvalidRequest(f"input {name!r}: in each row, {why}")
        elif shape != spec.stored_shape and (why := spec.misfit(spec.dtype, shape)) is not None:
            raise InvalidRequest(f"input {name!r}: {why}")
        layout.append((offset, spec.dtype, shape))
        offset += round_up(nbytes_of(spec.dtype, shape))
    return Layout(layout, offset, rows)


def _rows_of(specs: Mapping[str, TensorSpec], shapes: Mapping[str, tuple[int, ...]], most: int) -> int:
    """How many rows of a batch these are; 0: they are none, or do not fit.

    Raises:
        InvalidRequest: more than one request may carry, none, or different numbers.
    """
    if not specs or [name for name, spec in specs.items() if len(shapes[name]) != len(spec.shape) + 1]:
        return 0
    counts = {name: shapes[name][0] for name in specs}
    if len(set(counts.values())) > 1:
        told = ", ".join([f"{name!r} has {count}" for name, count in counts.items()])
        raise InvalidRequest(f"the inputs of a batch have the same number of rows, and {told}")
    rows = next(iter(counts.values()))
    if not 1 <= rows <= most:
        raise InvalidRequest(
            f"expected 1 to {most} rows, which one request of this pipeline may carry, found {rows}: "
            f"`InferRunner.infer` sends a larger batch as several requests, and `ingress.rows` allows more"
        )
    return rows


def _refuse_other_names(specs: Mapping[str, TensorSpec], given: Mapping[Any, Any]) -> None:
    # A caller's names may be of any type.
    if given.keys() != specs.keys():
        found = ", ".join(map(str, given)) or "none"
        missing = [name for name in specs if name not in given]
        near = [(name, nearest(str(name), missing)) for name in given if name not in specs]
        hint = "".join([
            f"; {name!r} may be meant for {meant!r}" if meant is not None else _argument_meant(str(name))
            for name, meant in near
        ])
        raise InvalidRequest(f"expected the inputs {', '.join(specs)}; found {found}{hint}")


def _argument_meant(name: str) -> str:
    """The end of a message about a keyword that is no input, if it is like an argument of the call."""
    if name in ("timeout", "timeout_s"):
        which = "get, which waits for the answer, or for deadline_ms, which ends the request"
        return f"; {name!r} may be meant for {which}"
    if name in _ARGUMENTS:
        return f"; {name!r} is an argument of infer, and not of this call"
    meant = nearest(name, _ARGUMENTS)
    return "" if meant is None else f"; {name!r} may be meant for {meant!r}, an argument of infer"


def limit_of(timeout_s: object) -> float:
    """A caller's time limit in seconds; below 0 it is 0, and infinity is as good as a hundred days.

    Raises:
        InvalidRequest: it is no number of seconds.
    """
    if not _is_number(timeout_s) or timeout_s != timeout_s:
        raise InvalidRequest(f"timeout_s: expected a number of seconds, or None, found {timeout_s!r}")
    return min(max(0.0, float(timeout_s)), _LONGEST_S)


def misfit_of(deadline_ms: object, priority: object, name: object = None) -> str | None:
    """Why a deadline, a priority or a name is wrong, before it gets to the wire; None if all are right."""
    if deadline_ms is not None and not (_is_number(deadline_ms) and 0 < deadline_ms <= _LONGEST_DEADLINE_MS):
        limits = f"above 0 and at most {_LONGEST_DEADLINE_MS:.0f}"
        return f"deadline_ms: expected a number of milliseconds {limits}, found {deadline_ms!r}"
    if name is not None and not isinstance(name, (str, PurePath)):
        return f"name: expected a text, which logs and stages call the request by, or None, found {name!r:.80}"
    whole = isinstance(priority, (int, np.integer)) and not isinstance(priority, bool)
    if not whole or not 0 <= int(priority) <= LOWEST_PRIORITY:  # type: ignore[call-overload]
        return f"priority: expected a priority 0..{LOWEST_PRIORITY}, found {priority!r}"
    return None


def checked_traceparent(text: object) -> str:
    """A trace context that a caller gives.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"traceparent: expected a text, found {type(text).__name__}")
    if (why := traceparent.misfit(text)) is not None:
        raise InvalidRequest(f"traceparent: {why}")
    return text


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
