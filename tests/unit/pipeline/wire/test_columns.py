"""Columns say what the orders say that they stand for, and none of unequal lengths gets past the codec."""

from __future__ import annotations

import gc
import sys
from typing import Any

import msgspec
import pytest

from pipeline.errors import WireError
from pipeline.wire.codec import decode, encode
from pipeline.wire.columns import (
    Columns,
    HopColumn,
    PassedColumns,
    TensorColumn,
    integers,
    joined,
    longs,
    picked,
    trace_of,
)
from pipeline.wire.messages import Notices, Orders
from pipeline.wire.traces import TRACE_BYTES


def u32(*numbers: int) -> bytes:
    return b"".join([number.to_bytes(4, "little") for number in numbers])


def u64(*numbers: int) -> bytes:
    return b"".join([number.to_bytes(8, "little") for number in numbers])


def columns(*rows: int, worker: int = 5, **changed: Any) -> Columns:
    """Rows of these requests, each in the slot of its number."""
    generations = u64(*[2 * row + 1 for row in rows])
    traces = b"".join([bytes([row]) * TRACE_BYTES for row in rows])
    made = Columns(
        u64(*rows),
        u32(*[row + 1 for row in rows]),
        tuple([f"r-{row}" for row in rows]),
        (HopColumn(0, 4, 9, u32(*rows), generations), HopColumn(1, worker, 0, b"", b"")),
        (TensorColumn(0, 8, 0, "uint8", (16,), u32(*rows), generations),),
        (traces,),
    )
    return msgspec.structs.replace(made, **changed)


def test_columns_come_through_the_codec_as_they_were_sent() -> None:
    orders = Orders(1, (), (columns(3, 7),))
    assert decode(encode(orders)) == orders
    passed = PassedColumns(u64(3, 7), u32(0, 1), (bytes(2 * TRACE_BYTES),))
    notices = Notices(1, 4, (), (), (passed,))
    assert decode(encode(notices)) == notices
    assert (len(orders.columns[0]), len(passed)) == (2, 2)


@pytest.mark.parametrize(
    "torn",
    [
        {"requests": u64(3)},
        {"requests": b""},
        {"attempts": u32(1, 2)[:-1]},
        {"attempts": b""},
        {"labels": ("r-3",)},
        {"hops": ()},
        {"hops": (HopColumn(0, 4, 9, u32(3), u64(7, 15)),)},
        {"hops": (HopColumn(0, 4, 9, b"", b""),)},
        {"hops": (HopColumn(0, 4, 0, u32(3, 7), b""),)},
        {"tensors": (TensorColumn(0, 8, 0, "uint8", (16,), u32(3, 7), u64(7)),)},
        {"tensors": (TensorColumn(0, 8, 0, "uint8", (16,), b"", b""),)},
        {"traces": (bytes(TRACE_BYTES),)},
        {"deadlines": u64(3)},
        {"started": u64(3, 7)[:-1]},
        {"traceparents": ("t",)},
    ],
)
def test_columns_of_unequal_lengths_are_refused_like_any_frame_that_is_no_message(torn: dict[str, Any]) -> None:
    whole = msgspec.msgpack.decode(encode(Orders(1, (), (columns(3, 7),))))
    names = Columns.__struct_fields__
    for name, value in torn.items():
        whole[3][0][names.index(name)] = msgspec.to_builtins(value, builtin_types=(bytes,))
    with pytest.raises(WireError, match="Orders"):
        decode(msgspec.msgpack.encode(whole))


@pytest.mark.parametrize("torn", [(u64(3), u32(1, 2), ()), (b"", b"", ()), (u64(3), u32(1), (b"x",))])
def test_torn_columns_of_a_notice_are_refused_with_what_was_expected(torn: tuple[Any, ...]) -> None:
    frame = [encode(Notices(1, 4, (), (), ()))]
    body = msgspec.msgpack.decode(frame[0])
    body[-1] = [torn]
    with pytest.raises(WireError, match=r"Notices.*expected"):
        decode(msgspec.msgpack.encode(body))


def test_what_takes_the_same_way_is_joined_row_after_row() -> None:
    assert joined([columns(3, 7), columns(1)]) == columns(3, 7, 1)
    assert joined([columns(3)]) == columns(3)


def test_nothing_is_left_of_columns_that_were_joined() -> None:
    parts = [columns(3, 7, traceparents=("a", "b")), columns(1)]
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        joined(parts)
    # Of each call a tuple was left, on Python's list of free ones.
    assert sys.getallocatedblocks() - before < 100


def test_what_goes_to_another_worker_or_lies_elsewhere_is_not_joined() -> None:
    tensor = TensorColumn(0, 8, 64, "uint8", (16,), u32(1), u64(3))
    assert joined([columns(3), columns(1, worker=6)]) is None
    assert joined([columns(3), columns(1, tensors=(tensor,))]) is None
    assert joined([columns(3), columns(1, traces=())]) is None


def test_rows_are_put_into_another_order_with_all_that_they_have() -> None:
    assert picked(columns(3, 7, 1), [2, 0, 1]) == columns(1, 3, 7)


def test_what_only_some_rows_have_stays_theirs() -> None:
    late = columns(3, 7, deadlines=u64(30, 0), traceparents=("t3", ""))
    whole = joined([columns(1), late, columns(9, started=u64(90))])
    assert whole is not None
    assert longs(whole.deadlines) == [0, 30, 0, 0]
    assert longs(whole.started) == [0, 0, 0, 90]
    assert whole.traceparents == ("", "t3", "", "")
    turned = picked(whole, [3, 1])
    assert (longs(turned.deadlines), longs(turned.started), turned.traceparents) == ([0, 30], [90, 0], ("", "t3"))
    plain = joined([columns(1), columns(2)])
    assert plain is not None
    assert (plain.deadlines, plain.started, plain.traceparents) == (b"", b"", ())


def test_integers_are_taken_out_of_their_columns() -> None:
    assert longs(u64(3, 1 << 40)) == [3, 1 << 40]
    assert integers(u32(3, (1 << 32) - 1)) == [3, (1 << 32) - 1]


def test_the_trace_of_a_row_is_all_that_the_stages_did_with_it() -> None:
    first, second = columns(3, 7).traces[0], columns(5, 6).traces[0]
    assert trace_of((first,), 1) == bytes([7]) * TRACE_BYTES
    assert trace_of((first, second), 0) == bytes([3]) * TRACE_BYTES + bytes([5]) * TRACE_BYTES
