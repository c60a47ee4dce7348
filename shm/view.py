"""SegmentTable: handles as numpy arrays.

Every process that reads or writes tensors has one table of the segments it has attached. It trusts
no handle: it checks segment, slot, generation, dtype and bounds before a byte can be reached, and
refuses a wrong handle with a `HandleRefused`. It never writes the slot table.

The generation is checked whenever a handle becomes a view. A view that is kept beyond the end of its
loan still points to mapped memory (never a crash), but the bytes there may be those of another tensor.

A view is a plain numpy array: it keeps the mapping alive, also after the table was closed, and it
speaks DLPack (`np.from_dlpack(view)`, `torch.from_dlpack(view)`) without copying, unless it is of bfloat16, which
numpy's DLPack does not know. A view of an encoding ("json", "bytes") has its bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from shm.errors import ForeignHandle, HandleOutOfBounds, SegmentExists, StaleHandle
from shm.handle import BYTES, LENGTH_BYTES, TensorHandle, itemsize, numpy_dtype
from shm.segment import Segment

__all__ = ["SegmentTable", "place_of", "rows_of", "side_by_side"]

Array = NDArray[Any]

#: Making a view costs 345 ns, finding it again 22 ns (measured). Of each place in memory the last one is kept, since
#: documents and pictures have ever new lengths: a view takes 0.6 KB, and would not be asked for again. The bound only
#: prevents a sender of ever new offsets from filling memory.
_CACHED_VIEWS = 4096

#: Every numpy since 1.x allows so many axes; later ones allow 64.
_MAX_AXES = 32

#: Bytes that a process can address. An empty tensor takes none, but the product of its other extents has this bound
#: too: numpy computes it.
_MOST_BYTES = 1 << 47


#: number, slot, offset, dtype, shape, writable
_Key = tuple[int, int, int, str, tuple[int, ...], bool]


class SegmentTable:
    """The segments that this process has attached, by number. Not thread-safe."""

    __slots__ = ("_last", "_segments", "_views")

    def __init__(self) -> None:
        #: number -> (slots, slot table, segment)
        self._segments: dict[int, tuple[int, memoryview, Segment]] = {}
        self._views: dict[_Key, Array] = {}
        #: (number, slot, offset, writable) -> the key of the view that was made of it last
        self._last: dict[tuple[int, int, int, bool], _Key] = {}

    def add(self, segment: Segment) -> None:
        """Make `segment` known; from now on the table is responsible for closing it.

        Raises:
            SegmentExists: another segment has the same number, or this one was added before.
        """
        if (known := self._segments.get(segment.number)) is not None:
            raise SegmentExists(f"{segment!r}: number {segment.number} is {known[2]!r} here already")
        self._segments[segment.number] = (segment.layout.slots, segment.generations, segment)

    def remove(self, number: int) -> None:
        """Forget and close a segment. Views of it stay valid.

        Raises:
            ForeignHandle: no segment of that number is attached.
        """
        segment = self._segment(number)
        del self._segments[number]
        self.forget_views()
        segment.close()

    def close(self) -> None:
        """Forget and close every segment. Views stay valid. A second call does nothing."""
        for number in list(self._segments):
            self.remove(number)

    def forget_views(self) -> None:
        """Keep none of the arrays that `view` has made: each lives as long as its users."""
        self._views.clear()
        self._last.clear()

    def __contains__(self, number: int) -> bool:
        return number in self._segments

    def __len__(self) -> int:
        return len(self._segments)

    def view(self, handle: TensorHandle, writable: bool = False) -> Array:
        """The tensor that `handle` names, in place.

        Args:
            handle: may come from any process; it is not trusted.
            writable: the caller holds the loan of the slot and will fill it.

        Returns:
            An array of the handle's shape and dtype, read-only unless `writable`. Of "json" and "bytes" it is
            uint8 (nbytes,).
            The same handle gives the same array object again, unless another one of this place was asked for meanwhile.

        Raises:
            ForeignHandle: its segment is not attached here.
            StaleHandle: its slot has come back, or was loaned again.
            HandleOutOfBounds: slot, offset, dtype or shape are invalid, or lead out of the slot.
        """
        # The fields may be of any type: nothing about a handle is trusted, in compiled code neither.
        fields: tuple[Any, ...] = handle
        number, slot, generation, offset, dtype, shape = fields
        try:
            known = self._segments.get(number)
            if known is None:
                raise ForeignHandle(
                    f"{_say(handle)}: segment {number} is not attached here, only {sorted(self._segments)}; "
                    f"its sender belongs to another run, or to a segment that was closed"
                )
            slots, generations, segment = known
            if not 0 <= slot < slots:
                raise HandleOutOfBounds(f"{_say(handle)}: {segment!r} has the slots 0..{slots - 1}")
            current = generations[slot]
            # A generation is even while the slot is free: such a handle was never given out.
            if current != generation or not generation & 1:
                raise StaleHandle(
                    f"{_say(handle)}: slot {slot} is at generation {current}, {'out' if current & 1 else 'free'}; "
                    f"the handle's loan is over, drop it"
                )
            key = (number, slot, offset, dtype, shape, writable)
            view = self._views.get(key)
        except TypeError as error:  # a list as shape, a string as slot: nothing that we encode
            raise HandleOutOfBounds(f"{_say(handle)}: expected ints, a name and a tuple of ints: {error}") from None
        if view is None:
            view = _make(segment, handle, writable)
            self._keep(key, view)
        return view

    def _keep(self, key: _Key, view: Array) -> None:
        place = (*key[:3], key[5])
        before = self._last.pop(place, None)
        if before is not None:
            del self._views[before]
        elif len(self._views) >= _CACHED_VIEWS:
            self.forget_views()
        self._views[key] = view
        self._last[place] = key

    def are_current(self, number: int, slots: Sequence[int], generations: Sequence[int]) -> bool:
        """Whether each slot of a segment is out, at that generation. False also if there is no such slot."""
        known = self._segments.get(number)
        if known is None:
            return False
        count, current, _ = known
        for slot, generation in zip(slots, generations):
            if not 0 <= slot < count or current[slot] != generation or not generation & 1:
                return False
        return True

    def slot_bytes(self, number: int) -> int:
        """Bytes of a slot of a segment.

        Raises:
            ForeignHandle: no segment of that number is attached.
        """
        return self._segment(number).layout.slot_bytes

    def _segment(self, number: int) -> Segment:
        try:
            return self._segments[number][2]
        except KeyError:
            raise ForeignHandle(f"segment {number} is not attached here, only {sorted(self._segments)}") from None


def _make(segment: Segment, handle: TensorHandle, writable: bool) -> Array:
    """The view of a handle whose slot and generation were checked.

    Raises:
        HandleOutOfBounds: offset, dtype or shape are invalid, or lead out of the slot.
    """
    fields: tuple[Any, ...] = handle
    _, slot, _, offset, dtype, shape = fields
    if type(slot) is not int or type(offset) is not int or offset < 0:
        raise HandleOutOfBounds(f"{_say(handle)}: expected an offset >= 0")
    try:
        extent = itemsize(dtype)
    except TypeError as error:
        raise HandleOutOfBounds(f"{_say(handle)}: {error}") from None
    slot_bytes = segment.layout.slot_bytes
    if type(shape) is not tuple or len(shape) > _MAX_AXES:
        raise HandleOutOfBounds(f"{_say(handle)}: expected a tuple of at most {_MAX_AXES} ints as shape")
    if dtype == BYTES:
        # The other extents are of the elements, which the view does not show. There is room for their lengths at least.
        if not shape or _nbytes(handle, 1, shape[-1:]) < _nbytes(handle, LENGTH_BYTES, shape[:-1]):
            raise HandleOutOfBounds(f"{_say(handle)}: expected a shape that ends with the bytes of all its elements")
        shape = shape[-1:]
    if offset + _nbytes(handle, extent, shape) > slot_bytes:
        raise HandleOutOfBounds(f"{_say(handle)}: it leads out of its slot of {slot_bytes} bytes")
    # The buffer is the whole mapping, so that numpy checks the bounds once more.
    start = segment.layout.slot_offset(slot) + offset
    view: Array = np.ndarray(shape, numpy_dtype(dtype), segment.buffer, start)
    view.flags.writeable = writable
    _remember(view)
    return view


def _nbytes(handle: TensorHandle, extent: int, shape: tuple[Any, ...]) -> int:
    """Bytes of elements of `extent` bytes each.

    Raises:
        HandleOutOfBounds: the shape is none, or larger than any memory.
    """
    empty = False
    for length in shape:
        if type(length) is not int or length < 0:
            raise HandleOutOfBounds(f"{_say(handle)}: expected a shape of ints >= 0")
        # The axes beside an empty one are checked too; and axis by axis, so that the product of a hostile shape never
        # grows large.
        if length:
            extent *= length
        else:
            empty = True
        if extent > _MOST_BYTES:
            raise HandleOutOfBounds(f"{_say(handle)}: it leads out of its slot, for no memory is as large")
    return 0 if empty else extent


def _say(handle: TensorHandle) -> str:
    """The handle as text for a message, cut to a line: a hostile handle may be of any length."""
    try:
        return repr(handle)[:300]
    except ValueError:  # Python refuses to print an int of thousands of digits
        return "a handle with absurd numbers"


def side_by_side(views: Sequence[Array]) -> Array | None:
    """One array (n, *shape) over `views` without copying, if they lie at one constant distance.

    Args:
        views: C-contiguous arrays of one dtype and shape, in ascending order of address, all inside
            one allocation (the same segment, or views of the same array).

    Returns:
        A view that keeps the memory alive and is read-only if any of `views` is, or None if the
        arrays lie otherwise. The rows may have gaps between them, so it need not be C-contiguous.
    """
    if not views:
        return None
    first = views[0]
    if len(views) == 1:
        return first[np.newaxis]
    shape, dtype = first.shape, first.dtype
    start, root = place_of(first)
    step = place_of(views[1])[0] - start
    if step < first.nbytes or step <= 0:
        return None
    expected, writable = start, True
    for view in views:
        address, owner = place_of(view)
        flags = view.flags
        if (
            address != expected
            or owner is not root
            or view.shape != shape
            or view.dtype != dtype
            or not flags.c_contiguous
        ):
            return None
        writable = writable and flags.writeable
        expected += step
    # Safe: the first and the last row lie in one allocation, so everything between them does.
    return as_strided(first, (len(views), *shape), (step, *first.strides), writeable=writable)


def rows_of(array: Array) -> list[Array]:
    """The rows of an array (n, *shape), as views: the reverse of `side_by_side`."""
    # With the ellipsis a row without dimensions is an array too, and not a copied number.
    return [array[row, ...] for row in range(len(array))]


def place_of(view: Array) -> tuple[int, object]:
    """Address of an array's first element, and the owner of that memory; quick for the views that tables made."""
    place = _PLACES.get(id(view))
    if place is not None and place[0]() is view:
        return place[1], place[2]
    return _address(view), _root(view)


#: id(view) -> a reference to it, its address, and what owns its memory; for the views that tables made. Asking numpy
#: costs 1 us a view, and batches ask for every row. The address cannot change: views do not own their memory, so numpy
#: never moves it.
_PLACES: dict[int, tuple[weakref.ref[Array], int, object]] = {}


def _remember(view: Array) -> None:
    key = id(view)
    _PLACES[key] = weakref.ref(view, partial(_forget, key)), _address(view), _root(view)


def _forget(key: int, reference: weakref.ref[Array]) -> None:
    # Python reuses an id at once; the entry may already be that of a younger view.
    place = _PLACES.get(key)
    if place is not None and place[0] is reference:
        del _PLACES[key]


def _root(view: Array) -> object:
    """The mapping, or the array that was allocated."""
    base: object = view
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return base.obj if isinstance(base, memoryview) else base


def _address(view: Array) -> int:
    return int(view.__array_interface__["data"][0])
