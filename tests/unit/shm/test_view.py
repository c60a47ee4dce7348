from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shm.elements import Elements, fill, stored_shape
from shm.errors import ForeignHandle, HandleOutOfBounds, HandleRefused, SegmentExists, StaleHandle
from shm.handle import _ITEMSIZES, TensorHandle, itemsize, numpy_dtype
from shm.pool import SlotPool
from shm.segment import Segment, SegmentSpec
from shm.segments import attach, create
from shm.view import SegmentTable, side_by_side

SLOTS, SLOT_BYTES = 4, 256


@pytest.fixture
def segment() -> Iterator[Segment]:
    with create("local", SegmentSpec("run", "pool", SLOT_BYTES, SLOTS)) as made:
        yield made


@pytest.fixture
def pool(segment: Segment) -> SlotPool:
    return SlotPool(segment)


@pytest.fixture
def table(segment: Segment) -> Iterator[SegmentTable]:
    table = SegmentTable()
    table.add(attach(segment.address))
    yield table
    table.close()


@pytest.fixture
def handle(segment: Segment, pool: SlotPool) -> TensorHandle:
    """A loaned slot 0, whole, as bytes."""
    return TensorHandle(segment.number, *pool.loan(), 0, "uint8", (SLOT_BYTES,))


def test_a_view_is_the_slots_bytes_in_place(segment: Segment, table: SegmentTable, handle: TensorHandle) -> None:
    view = table.view(handle._replace(offset=16, dtype="float32", shape=(2, 3)), writable=True)
    view[...] = np.arange(6).reshape(2, 3)
    assert segment.slot(0)[16:40].tobytes() == np.arange(6, dtype="<f4").tobytes()
    assert segment.slot(0)[:16].tobytes() == bytes(16)


def test_a_view_is_read_only_unless_asked_otherwise(table: SegmentTable, handle: TensorHandle) -> None:
    assert not table.view(handle).flags.writeable
    assert table.view(handle, writable=True).flags.writeable
    assert not table.view(handle).flags.writeable


def test_json_is_bytes(segment: Segment, table: SegmentTable, handle: TensorHandle) -> None:
    segment.slot(0)[:2] = b"{}"
    view = table.view(handle._replace(dtype="json", shape=(2,)))
    assert (view.dtype, view.tobytes()) == (np.uint8, b"{}")


def test_elements_of_bytes_are_seen_as_their_encoding(table: SegmentTable, handle: TensorHandle) -> None:
    array = np.array([[b"ab", b""]], object)
    view = table.view(handle._replace(dtype="bytes", shape=stored_shape(array)), writable=True)
    assert (view.dtype, view.shape) == (np.uint8, (10,))
    fill(view, array)
    assert Elements(table.view(handle._replace(dtype="bytes", shape=(1, 2, 10))), (1, 2)).decode().tolist() == array.tolist()


@pytest.mark.parametrize(
    "shape",
    [(), (-1,), (3,) * 2, (2, 7), (-1, 8), (1 << 60, 8), (SLOT_BYTES + 1,), (1, SLOT_BYTES + 1), ("a", 8), (1, "8"), (1, 8.0), (None, 8)],
    ids=str,
)  # fmt: skip
def test_a_shape_that_no_elements_of_bytes_have_is_refused(
    table: SegmentTable, handle: TensorHandle, shape: tuple[int, ...]
) -> None:
    with pytest.raises(HandleOutOfBounds):
        table.view(handle._replace(dtype="bytes", shape=shape))


@given(data=st.data())
@settings(deadline=None, max_examples=25)
@pytest.mark.parametrize("dtype", sorted({*_ITEMSIZES, "bfloat16"} - {"json", "bytes"}))
def test_numbers_of_every_dtype_come_back_bit_by_bit(dtype: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=2))
    wanted = np.frombuffer(data.draw(st.binary(min_size=itemsize(dtype) * 8, max_size=itemsize(dtype) * 8)), np.uint8)
    with create("local", SegmentSpec("run", "pool", SLOT_BYTES, 1)) as segment:
        handle = TensorHandle(segment.number, *SlotPool(segment).loan(), 0, dtype, shape)
        table = SegmentTable()
        table.add(attach(segment.address))
        bits = wanted[: handle.nbytes]
        table.view(handle, writable=True)[...] = bits.view(numpy_dtype(dtype)).reshape(shape)
        found = table.view(TensorHandle(*handle))
        assert (found.dtype.name, found.shape) == (dtype, shape)
        if np.dtype(dtype).kind not in "bc" and itemsize(dtype) < 16:
            assert segment.slot(0)[: handle.nbytes].tobytes() == bits.tobytes()
        assert found.tobytes() == bits.view(numpy_dtype(dtype)).reshape(shape).tobytes() or itemsize(dtype) >= 16
        del found
        table.close()


def test_an_empty_tensor_may_have_extents_that_its_slot_could_not_hold(table: SegmentTable, handle: TensorHandle) -> None:
    """A slot of a smaller size is given for what takes no bytes."""
    shape = (0, 64 * SLOT_BYTES, 3)
    view = table.view(handle._replace(shape=shape, dtype="float32"), writable=True)
    assert view.shape == shape
    view[...] = 1
    assert np.stack([view, view]).shape == (2, *shape)


def test_the_same_handle_gives_the_same_array_again(table: SegmentTable, handle: TensorHandle) -> None:
    assert table.view(handle) is table.view(TensorHandle(*handle))


def test_a_stale_handle_is_refused_and_never_read(table: SegmentTable, pool: SlotPool, handle: TensorHandle) -> None:
    table.view(handle)  # cached: the generation is checked all the same
    pool.abandon(handle.slot, handle.generation)
    with pytest.raises(StaleHandle, match="slot 0 is at generation 2, free"):
        table.view(handle)
    pool.loan()
    with pytest.raises(StaleHandle, match="slot 0 is at generation 3, out"):
        table.view(handle)
    assert table.view(handle._replace(generation=3)) is not None


def test_a_handle_to_a_free_slot_is_stale_though_the_generation_is_the_tables(
    table: SegmentTable, pool: SlotPool, handle: TensorHandle
) -> None:
    pool.abandon(handle.slot, handle.generation)
    with pytest.raises(StaleHandle):
        table.view(handle._replace(generation=2))


def test_a_foreign_segment_is_refused(table: SegmentTable, handle: TensorHandle) -> None:
    with pytest.raises(ForeignHandle, match="is not attached here"):
        table.view(handle._replace(segment=handle.segment ^ 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": -1},
        {"slot": SLOTS},
        {"slot": 2**80},
        {"offset": -1},
        {"offset": 1},
        {"offset": 2**63},
        {"offset": 2**80},
        {"offset": SLOT_BYTES + 1, "shape": (0,)},
        {"shape": (SLOT_BYTES + 1,)},
        {"shape": (-1,)},
        {"shape": (-2, -2)},
        {"shape": (2**62, 4)},
        {"shape": (2**64,) * 32},
        {"shape": (1,) * 33},
        {"shape": (0, 2**62)},
        {"shape": (2.0,)},
        {"shape": [2]},
        {"shape": "ab"},
        {"shape": (10**5000,)},
        {"dtype": "object"},
        {"dtype": "f4"},
        {"dtype": "O,O"},
        {"dtype": ["uint8"]},
        {"dtype": None},
        {"slot": "0"},
        {"slot": None},
        {"segment": []},
        {"offset": 0.5},
        {"offset": "0"},
    ],
    ids=lambda changes: str(changes)[:40] if "shape" not in changes or changes["shape"] != (10**5000,) else "a number of 5000 digits",
)
def test_a_handle_that_leads_out_of_its_slot_or_is_nonsense_is_refused(
    table: SegmentTable, handle: TensorHandle, changes: dict[str, object]
) -> None:
    with pytest.raises(HandleOutOfBounds) as refusal:
        table.view(handle._replace(**changes))  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 600


def test_what_reaches_exactly_to_the_slots_end_is_allowed(table: SegmentTable, handle: TensorHandle) -> None:
    assert table.view(handle._replace(offset=SLOT_BYTES - 8, dtype="float64", shape=())).nbytes == 8
    assert table.view(handle._replace(offset=SLOT_BYTES, shape=(0,))).nbytes == 0


numbers = st.integers(-3, 300) | st.integers(-(2**70), 2**70)


@settings(deadline=None)
@given(
    segment=st.booleans(), slot=numbers, generation=st.sampled_from([1, 1, 1, 0, 2, -1, 2**64]), offset=numbers,
    dtype=st.sampled_from(["uint8", "float32", "complex128", "json", "bool"]) | st.text(max_size=8),
    shape=st.lists(numbers, max_size=6).map(tuple) | st.lists(st.integers(0, 9), max_size=3).map(tuple),
)  # fmt: skip
def test_no_handle_reaches_beyond_its_slot(
    segment: bool, slot: int, generation: int, offset: int, dtype: str, shape: tuple[int, ...]
) -> None:
    with create("local", SegmentSpec("run", "hostile", SLOT_BYTES, SLOTS)) as made:
        pool, table = SlotPool(made), SegmentTable()
        for _ in range(SLOTS):
            pool.loan()
        table.add(attach(made.address))
        start = np.frombuffer(made.buffer, np.uint8).ctypes.data
        handle = TensorHandle(made.number if segment else made.number ^ 5, slot, generation, offset, dtype, shape)
        try:
            view = table.view(handle)
        except HandleRefused:
            return
        finally:
            table.close()
        low = start + made.layout.slot_offset(slot)
        address = view.__array_interface__["data"][0]
        assert low <= address == low + offset <= low + SLOT_BYTES
        assert address + math.prod(shape) * view.itemsize <= low + SLOT_BYTES
        assert view.shape == shape
        assert view.flags.c_contiguous
        view.tobytes()


def test_the_cache_of_views_is_bounded(table: SegmentTable, handle: TensorHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shm.view._CACHED_VIEWS", 8)
    first = table.view(handle)
    for offset in range(100):
        table.view(handle._replace(offset=offset, shape=(1,)))
        assert len(table._views) == len(table._last) <= 8
    assert table.view(handle) is not first


def test_of_a_place_in_memory_the_last_view_alone_is_kept(table: SegmentTable, handle: TensorHandle) -> None:
    # The documents that say what a camera sees are of ever new lengths.
    beside = table.view(handle._replace(offset=128, shape=(3,)))
    written = table.view(handle, writable=True)
    for length in range(100):
        last = table.view(handle._replace(shape=(length,)))
    assert len(table._views) == len(table._last) == 3
    assert table.view(handle._replace(shape=(99,))) is last
    assert table.view(handle._replace(offset=128, shape=(3,))) is beside
    assert table.view(handle, writable=True) is written


def test_a_view_outlives_its_table_and_its_segment() -> None:
    with create("posix", SegmentSpec("view-test", "pool", SLOT_BYTES, 1)) as segment:
        slot, generation = SlotPool(segment).loan()
        segment.slot(slot)[:4] = b"live"
        table = SegmentTable()
        table.add(attach(segment.address))
        view = table.view(TensorHandle(segment.number, slot, generation, 0, "uint8", (4,)))
        table.close()
    del table, segment
    gc.collect()
    assert view.tobytes() == b"live"


def test_views_that_died_are_forgotten(table: SegmentTable, handle: TensorHandle) -> None:
    from shm.view import _PLACES

    table.view(handle)
    before = len(_PLACES)
    kept = [table.view(handle._replace(shape=(length,))) for length in range(50)]
    assert len(_PLACES) == before + 49
    kept.clear()
    gc.collect()
    assert len(_PLACES) == before
    table.close()
    gc.collect()
    assert len(_PLACES) == before - 1


def test_a_table_knows_what_was_added_until_it_is_removed(segment: Segment, table: SegmentTable, handle: TensorHandle) -> None:
    assert segment.number in table
    assert len(table) == 1
    again = attach(segment.address)
    with pytest.raises(SegmentExists, match=f"number {segment.number}"):
        table.add(again)
    table.view(handle)
    table.remove(segment.number)
    with pytest.raises(ForeignHandle):
        table.view(handle)
    with pytest.raises(ForeignHandle):
        table.remove(segment.number)
    table.add(again)
    assert table.view(handle) is not None
    table.close()
    assert again.closed
    table.close()


def test_how_large_the_slots_of_a_segment_are(segment: Segment, table: SegmentTable) -> None:
    assert table.slot_bytes(segment.number) == SLOT_BYTES
    with pytest.raises(ForeignHandle):
        table.slot_bytes(1)


def test_a_view_speaks_dlpack_without_copying(table: SegmentTable, handle: TensorHandle) -> None:
    view = table.view(handle, writable=True)
    other = np.from_dlpack(view)
    view[7] = 42
    assert other[7] == 42
    assert np.shares_memory(view, other)


# -- side by side -------------------------------------------------------------------------------


def test_empty_rows_are_one_array_or_none_but_never_an_error(segment: Segment, pool: SlotPool, table: SegmentTable) -> None:
    rows = [table.view(handle._replace(shape=(0, 3))) for handle in handles(segment, pool, 3)]
    stacked = side_by_side(rows)
    assert stacked is not None
    assert stacked.shape == (3, 0, 3)
    # Many empty tensors of one slot have one place.
    assert side_by_side([rows[0]] * 2) is None


def handles(segment: Segment, pool: SlotPool, n: int) -> list[TensorHandle]:
    return [TensorHandle(segment.number, *pool.loan(), 64, "float32", (2, 3)) for _ in range(n)]


def test_slots_in_a_row_become_one_array_without_a_copy(segment: Segment, pool: SlotPool, table: SegmentTable) -> None:
    rows = [table.view(handle, writable=True) for handle in handles(segment, pool, 3)]
    stacked = side_by_side(rows)
    assert stacked is not None
    assert stacked.shape == (3, 2, 3)
    assert stacked.flags.writeable
    for n, row in enumerate(rows):
        row[...] = n
    assert [set(stacked[n].ravel().tolist()) for n in range(3)] == [{0.0}, {1.0}, {2.0}]
    stacked[1] = 9
    assert (rows[1] == 9).all()
    assert (rows[0] == 0).all()


def test_every_second_slot_is_a_constant_step_too(segment: Segment, pool: SlotPool, table: SegmentTable) -> None:
    rows = [table.view(handle) for handle in handles(segment, pool, 4)]
    stacked = side_by_side(rows[::2])
    assert stacked is not None
    assert stacked.strides[0] == 2 * SLOT_BYTES
    assert not stacked.flags.writeable


def test_one_view_is_itself_with_an_axis_more(table: SegmentTable, handle: TensorHandle) -> None:
    view = table.view(handle)
    stacked = side_by_side([view])
    assert stacked is not None
    assert stacked.shape == (1, SLOT_BYTES)
    assert np.shares_memory(stacked, view)
    assert not stacked.flags.writeable


def test_what_does_not_lie_side_by_side_is_none(segment: Segment, pool: SlotPool, table: SegmentTable) -> None:
    given = handles(segment, pool, 4)
    a, b, c, d = (table.view(handle) for handle in given)
    assert side_by_side([]) is None
    assert side_by_side([b, a]) is None  # descending
    assert side_by_side([a, a]) is None  # no step
    assert side_by_side([a, b, d]) is None  # not constant
    assert side_by_side([a, c, b]) is None
    assert side_by_side([a, table.view(given[1]._replace(shape=(3, 2)))]) is None
    assert side_by_side([a, table.view(given[1]._replace(dtype="int32"))]) is None
    assert side_by_side([a, table.view(given[0]._replace(offset=68))]) is None  # they overlap
    assert side_by_side([a.T, b.T]) is None  # not C-contiguous


def test_one_read_only_row_makes_all_of_it_read_only(segment: Segment, pool: SlotPool, table: SegmentTable) -> None:
    one, two = handles(segment, pool, 2)
    stacked = side_by_side([table.view(one, writable=True), table.view(two)])
    assert stacked is not None
    assert not stacked.flags.writeable


def test_rows_of_different_memory_are_never_joined() -> None:
    rows = [np.zeros(4, np.uint8) for _ in range(8)]
    rows.sort(key=lambda row: row.ctypes.data)
    for n in range(7):
        assert side_by_side(rows[n : n + 2]) is None


def test_rows_of_one_plain_array_are_joined() -> None:
    whole = np.arange(12).reshape(3, 4)
    stacked = side_by_side([whole[0], whole[1], whole[2]])
    assert stacked is not None
    assert np.shares_memory(stacked, whole)
    assert (stacked == whole).all()


def test_the_joined_array_keeps_the_memory_alive() -> None:
    with create("posix", SegmentSpec("view-test", "pool", SLOT_BYTES, 2)) as segment:
        table = SegmentTable()
        table.add(attach(segment.address))
        pool = SlotPool(segment)
        segment.slot(1)[64] = 5
        stacked = side_by_side([table.view(h._replace(dtype="uint8")) for h in handles(segment, pool, 2)])
        table.close()
    del table, segment, pool
    gc.collect()
    assert stacked is not None
    assert stacked[1, 0, 0] == 5


def test_slots_are_current_while_all_are_out_at_their_generations(table: SegmentTable, segment: Segment, pool: SlotPool) -> None:
    loans = [pool.loan() for _ in range(2)]
    slots, generations = [slot for slot, _ in loans], [generation for _, generation in loans]
    assert table.are_current(segment.number, slots, generations)
    assert not table.are_current(segment.number + 1, slots, generations)
    assert not table.are_current(segment.number, [SLOTS, slots[1]], generations)
    pool.abandon(*loans[1])
    assert not table.are_current(segment.number, slots, generations)
    assert not table.are_current(segment.number, slots, [generations[0], generations[1] + 1])
    assert table.are_current(segment.number, slots[:1], generations[:1])
