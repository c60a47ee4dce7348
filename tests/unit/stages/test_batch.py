from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stages import copies
from stages.batch import Array, Batch
from stages.copies import (
    GAPS,
    GATHERED,
    INPUT,
    OUTPUT,
    PADDED,
    REASONS,
    RETURNED,
    SCATTERED,
    SHAPE_UNKNOWN,
)
from stages.errors import BadInput, SpecMismatch
from stages.request import RequestInfo
from stages.spec import TensorSpec
from stages.testing import MemoryBatch

IMAGE = TensorSpec("image", "float32", (2, 3))
TAGS = TensorSpec.json("tags", 32)
BOXES = TensorSpec("boxes", "int32", ("n", 4), {"n": 5})
LINES = TensorSpec("lines", "uint8", ("W",), {"W": 8}, many=4)


class Slots:
    """Room for outputs in one allocation: row r at `order[r]`, `gap` bytes between rows."""

    def __init__(self, specs: Sequence[TensorSpec], order: Sequence[int], gap: int = 0) -> None:
        self.order = order
        self.memory = {s.name: np.full((len(order), s.max_nbytes + gap), 0xAA, np.uint8) for s in specs}
        self.dtypes = {s.name: np.dtype(np.uint8 if s.dtype == "json" else s.dtype) for s in specs}
        self.shapes: dict[tuple[int, str], tuple[int, ...]] = {}

    def allocate(self, row: int, name: str, shape: tuple[int, ...]) -> Array:
        self.shapes[row, name] = shape
        dtype = self.dtypes[name]
        return self.memory[name][self.order[row]][: dtype.itemsize * math.prod(shape)].view(dtype).reshape(shape)

    def allocate_many(self, row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        return [np.zeros(shape, self.dtypes[name]) for shape in shapes]

    def read(self, row: int, name: str) -> Array:
        return self.allocate(row, name, self.shapes[row, name])


def batch(
    rows: Sequence[Array] = (), specs: Sequence[TensorSpec] = (), order: Sequence[int] = (0, 1, 2), gap: int = 0
) -> tuple[Batch, Slots]:
    slots = Slots(specs, order, gap)
    given = {"image": list(rows)}
    return Batch(len(order), given, {s.name: s for s in specs}, slots.allocate, slots.allocate_many), slots


@pytest.fixture
def pixels() -> Array:
    return np.arange(18, dtype=np.float32).reshape(3, 2, 3)


# -- inputs ----------------------------------------------------------------------------------------


def test_rows_that_lie_side_by_side_are_stacked_without_a_copy(pixels: Array) -> None:
    b, _ = batch(list(pixels))
    stacked = b.stack("image")
    assert np.shares_memory(stacked, pixels)
    assert (stacked == pixels).all()
    assert b.bytes_copied == 0


def test_rows_in_another_order_are_gathered_and_the_bytes_counted(pixels: Array) -> None:
    b, _ = batch([pixels[2], pixels[0], pixels[1]])
    stacked = b.stack("image")
    assert (stacked == pixels[[2, 0, 1]]).all()
    assert b.copies == {(INPUT, "image", GATHERED): pixels.nbytes}


def test_rows_with_gaps_are_a_view_unless_it_must_be_dense() -> None:
    wide = np.arange(24, dtype=np.float32).reshape(3, 8)
    b, _ = batch([row[:6].reshape(2, 3) for row in wide])
    view = b.stack("image")
    assert np.shares_memory(view, wide)
    assert not view.flags.c_contiguous
    dense = b.stack("image", dense=True)
    assert dense.flags.c_contiguous
    assert (dense == view).all()
    assert b.copies == {(INPUT, "image", GAPS): dense.nbytes}


def test_rows_of_different_shapes_cannot_be_stacked_but_can_be_read() -> None:
    b, _ = batch([np.zeros((2, 3)), np.zeros((4, 3)), np.zeros((2, 3))])
    with pytest.raises(BadInput, match=r"different shapes \[\(2, 3\), \(4, 3\)\]"):
        b.stack("image")
    assert [row.shape for row in b.rows("image")] == [(2, 3), (4, 3), (2, 3)]


def test_an_unknown_input_is_refused_with_those_there_are(pixels: Array) -> None:
    b, _ = batch(list(pixels))
    with pytest.raises(SpecMismatch, match=r"no input 'picture'; this stage has \['image'\]"):
        b.rows("picture")


def test_a_document_is_read_from_a_json_row() -> None:
    text = '{"größe": [1, 2]}'.encode()
    b = Batch(1, {"doc": [np.frombuffer(text, np.uint8)]}, {}, lambda *_: np.empty(0), lambda *_: [])
    assert b.document(0, "doc") == {"größe": [1, 2]}


# -- outputs ---------------------------------------------------------------------------------------


def test_an_output_is_written_where_the_row_lies() -> None:
    b, slots = batch(specs=[IMAGE], order=[2, 0, 1])
    for row in range(3):
        b.out(row, "image")[...] = row
    b.finish(None)
    assert [slots.memory["image"][i].view(np.float32)[0] for i in range(3)] == [1, 2, 0]


def test_outputs_side_by_side_are_stacked_without_a_copy() -> None:
    b, slots = batch(specs=[IMAGE])
    b.stack_out("image")[...] = np.arange(18).reshape(3, 2, 3)
    b.finish(None)
    assert b.bytes_copied == 0
    assert (slots.read(2, "image") == [[12, 13, 14], [15, 16, 17]]).all()


@pytest.mark.parametrize(
    ("order", "gap", "dense", "reason"), [([2, 0, 1], 0, False, SCATTERED), ([0, 1, 2], 8, True, GAPS)]
)
def test_outputs_that_lie_apart_are_scattered_after_process(order: list[int], gap: int, dense: bool, reason: str) -> None:
    b, slots = batch(specs=[IMAGE], order=order, gap=gap)
    stacked = b.stack_out("image", dense=dense)
    assert stacked.flags.c_contiguous
    stacked[...] = np.arange(18).reshape(3, 2, 3)
    b.finish(None)
    assert b.copies == {(OUTPUT, "image", reason): stacked.nbytes}
    for row in range(3):
        assert (slots.read(row, "image") == stacked[row]).all()


def test_outputs_with_gaps_are_written_through_a_view() -> None:
    b, slots = batch(specs=[IMAGE], gap=8)
    b.stack_out("image")[...] = 7
    b.finish(None)
    assert b.bytes_copied == 0
    assert (slots.read(2, "image") == 7).all()
    assert (slots.memory["image"][:, 24:] == 0xAA).all()


def test_a_failed_row_is_not_written_by_the_scatter() -> None:
    b, slots = batch(specs=[IMAGE], order=[2, 1, 0])
    b.stack_out("image")[...] = 0
    b.fail(1, "no face on it")
    b.finish(None)
    assert (slots.memory["image"][1] == 0xAA).all()
    assert (slots.memory["image"][[0, 2]] == 0).all()


def test_a_free_dimension_is_settled_per_row() -> None:
    b, slots = batch(specs=[BOXES])
    for row in range(3):
        b.out(row, "boxes", (row, 4))[...] = row
    b.finish(None)
    assert slots.read(2, "boxes").tolist() == [[2] * 4] * 2


def test_a_free_dimension_must_be_given_and_stay_below_its_maximum() -> None:
    b, _ = batch(specs=[BOXES])
    with pytest.raises(SpecMismatch, match="free dimensions: give the shape"):
        b.out(0, "boxes")
    with pytest.raises(SpecMismatch, match="expected at most 5 for 'n'"):
        b.out(0, "boxes", (6, 4))


def test_rows_and_shapes_may_be_numbers_of_numpy() -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def allocate(row: Any, name: str, shape: Any) -> Array:
        asked.append((row, shape))
        return np.zeros(shape, np.uint8)

    def allocate_many(row: Any, name: str, shapes: Any) -> list[Array]:
        return [allocate(row, name, shape) for shape in shapes]

    free: Any = TensorSpec("y", "uint8", ("n",), {"n": np.int64(4)})  # type: ignore[dict-item]
    many: Any = TensorSpec("z", "uint8", (np.int64(2),), many=2)  # type: ignore[arg-type]
    made: Any = Batch(3, {}, {"y": free, "z": many}, allocate, allocate_many)
    made.out(np.int64(1), "y", (np.int64(4),))
    made.out(2, "y", [3])
    made.out_many(np.uint8(0), "z", [np.array([2]), (2,)])
    assert asked == [(1, (4,)), (2, (3,)), (0, (2,)), (0, (2,))]
    assert {type(number) for row, shape in asked for number in (row, *shape)} == {int}
    assert [type(free.max["n"]), type(many.shape[0])] == [int, int]


@pytest.mark.parametrize("row", [3, -1, -4, np.int64(-1), True, np.bool_(True), 1.0, "0", None])
@pytest.mark.parametrize(
    "act", ["out", "out_many", "write", "write of many", "write of bytes", "fail", "document", "result"]
)
def test_a_row_that_is_none_is_refused_with_those_there_are(row: Any, act: str) -> None:
    many, names = TensorSpec("many", "uint8", (2,), many=2), TensorSpec("names", "bytes", ("n",), {"n": 2, "bytes": 20})
    outputs = {spec.name: spec for spec in (IMAGE, many, names)}
    made = MemoryBatch(3, {"text": [np.frombuffer(b"1", np.uint8)] * 3}, outputs)
    value = np.ones(IMAGE.shape, IMAGE.dtype)
    for each in range(3):
        made.write(each, "image", 0 * value)
    acts: dict[str, Callable[[], object]] = {
        "out": lambda: made.out(row, "image"),
        "out_many": lambda: made.out_many(row, "many", [(2,)]),
        "write": lambda: made.write(row, "image", value),
        "write of many": lambda: made.write(row, "many", [[1, 2]]),
        "write of bytes": lambda: made.write(row, "names", [b"a"]),
        "fail": lambda: made.fail(row, "no"),
        "document": lambda: made.document(row, "text"),
        "result": lambda: made.result(row, "image"),
    }
    expected = f"row {row!r}: this batch has the rows 0 to 2, 3 in all; give the number of one of them"
    with pytest.raises(SpecMismatch, match=re.escape(expected)):
        acts[act]()
    assert not made.failed
    assert not any(made.result(each, "image").any() for each in range(3))


@pytest.mark.parametrize("shape", [(1.5, 4), ("n", 4), 3])
def test_a_shape_that_is_none_is_refused(shape: Any) -> None:
    made, _ = batch(specs=[BOXES])
    with pytest.raises(SpecMismatch, match="output 'boxes': expected a shape of whole numbers, found"):
        made.out(0, "boxes", shape)


@pytest.mark.parametrize("error", [42, ValueError, None])
def test_a_row_fails_with_an_exception_or_a_text(error: Any) -> None:
    made, _ = batch()
    with pytest.raises(SpecMismatch, match="expected an exception or a text, found"):
        made.fail(0, error)
    assert not made.failed


def test_bytes_copied_are_plain_numbers() -> None:
    made, _ = batch()
    made.count_copy(INPUT, "x", GATHERED, np.int64(7))  # type: ignore[arg-type]
    assert [type(nbytes) for nbytes in made.copies.values()] == [int]


def test_an_unknown_output_is_refused_with_those_there_are() -> None:
    b, _ = batch(specs=[IMAGE, TAGS])
    with pytest.raises(SpecMismatch, match=r"no output 'labels'; this stage has \['image', 'tags'\]"):
        b.out(0, "labels")


def test_json_is_written_compactly_and_must_fit() -> None:
    b, slots = batch(specs=[TAGS], order=[0])
    b.write(0, "tags", {"é": [1, None]})
    assert slots.read(0, "tags").tobytes() == '{"é":[1,null]}'.encode()
    with pytest.raises(SpecMismatch, match="expected at most 32 for 'bytes'"):
        b.write(0, "tags", "x" * 31)


@pytest.mark.parametrize("value", ["abc", b"abc"])
def test_a_text_is_no_list_of_many(value: object) -> None:
    b, _ = batch(specs=[TensorSpec.json("words", 16, many=4)], order=[0])
    with pytest.raises(SpecMismatch, match=f"expected a list of tensors, found {type(value).__name__}"):
        b.write(0, "words", value)


# -- what process returns --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"a": np.float32(1)}, {1, 2}, "\udcff"])
def test_a_value_that_is_no_json_is_refused_by_the_name_of_its_output(value: object) -> None:
    b, _ = batch((), [TAGS])
    with pytest.raises(SpecMismatch, match="output 'tags': no JSON value: "):
        b.write(0, "tags", value)


def test_none_is_no_number() -> None:
    b, _ = batch((), [TensorSpec("image", "float32", (1,))])
    with pytest.raises(SpecMismatch, match="output 'image': expected float32 values, found None"):
        b.write(0, "image", None)


def test_returned_arrays_and_values_are_copied_into_the_rows_and_counted(pixels: Array) -> None:
    b, slots = batch(specs=[IMAGE, TAGS])
    b.finish({"image": pixels, "tags": [["a"], [], None]})
    assert (slots.read(1, "image") == pixels[1]).all()
    assert slots.read(0, "tags").tobytes() == b'["a"]'
    assert b.copies == {(OUTPUT, "image", RETURNED): pixels.nbytes}


def test_what_is_written_counts_as_returned_and_a_document_as_no_copy() -> None:
    b, _ = batch(specs=[IMAGE, TAGS, LINES], order=[0])
    b.write(0, "image", [[1, 2, 3], [4, 5, 6]])
    b.write(0, "tags", ["a"])
    b.write(0, "lines", [np.zeros(3, np.uint8), np.zeros(0, np.uint8), np.zeros(5, np.uint8)])
    b.finish(None)
    assert b.copies == {(OUTPUT, "image", RETURNED): 24, (OUTPUT, "lines", RETURNED): 8}
    assert b.bytes_copied == 32


def test_each_side_tensor_and_reason_is_counted_apart(pixels: Array) -> None:
    b, _ = batch([pixels[2], pixels[0], pixels[1]], [IMAGE], order=[2, 0, 1])
    b.stack("image")
    b.stack("image")
    b.stack_out("image")[...] = 0
    b.count_copy(INPUT, "image", PADDED, 5)
    b.count_copy(INPUT, "image", PADDED, 0)
    b.count_copy(OUTPUT, "boxes", SHAPE_UNKNOWN, 0)
    b.finish(None)
    assert b.copies == {
        (INPUT, "image", GATHERED): 2 * pixels.nbytes,
        (INPUT, "image", PADDED): 5,
        (OUTPUT, "image", SCATTERED): pixels.nbytes,
    }


def test_every_reason_says_why_and_what_would_save_the_copy() -> None:
    names = {value for name, value in vars(copies).items() if name.isupper() and isinstance(value, str)}
    assert names - {INPUT, OUTPUT} == set(REASONS)
    drawing = str(copies.__doc__)
    assert all(name in drawing for name in REASONS)


def test_a_wrong_number_of_returned_rows_is_refused(pixels: Array) -> None:
    b, _ = batch(specs=[IMAGE])
    with pytest.raises(SpecMismatch, match="expected 3 rows, found 2"):
        b.finish({"image": pixels[:2]})


class Odd:
    """Neither a sequence nor an array."""

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (np.zeros((3, 2), np.float32), "an array of float32 [3, 2]"),
        ([1, 2, 3], "a list"),
        ((1, 2), "a tuple"),
        (7, "an int"),
        (True, "a bool"),
        ((x for x in "abc"), "a generator, so nothing has run"),
    ],
)
def test_what_process_may_not_return_is_refused_with_what_it_may(returned: Any, found: str) -> None:
    b, _ = batch((), [TensorSpec("image", "float32", (2, 3)), TensorSpec("verdict", "float32", (1,))])
    with pytest.raises(SpecMismatch) as refused:
        b.finish(returned)
    message = str(refused.value)
    assert message.startswith(f"process returned {found}")
    assert "expected None once every output is filled, by batch.out(row, 'image')" in message
    assert "a mapping {'image': one value for each of the 3 rows} (and the same for verdict)" in message


def test_a_stage_without_outputs_that_returns_something_is_told_so() -> None:
    with pytest.raises(SpecMismatch, match="process returned a list; expected None, for this stage has no outputs"):
        batch()[0].finish([1])  # type: ignore[arg-type]


def test_async_code_is_refused_as_what_it_is() -> None:
    async def process() -> None:
        return None

    made = process()
    with pytest.raises(SpecMismatch, match=r"process returned a coroutine, so nothing has run: .* without async"):
        batch((), [TensorSpec("image", "float32", (2, 3))])[0].finish(made)  # type: ignore[arg-type]
    made.close()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (3.5, "a float"),
        (np.float32(1), "a float32"),
        (np.zeros(()), "an array of float64 []"),
        ("abc", "a str"),
        (b"abc", "a bytes"),
        ({0: 1, 1: 2, 2: 3}, "a dict"),
        ({1, 2, 3}, "a set"),
        (Odd(), "an Odd"),
        (None, "a NoneType"),
    ],
)
def test_what_is_not_one_value_a_row_is_refused_by_its_type(values: Any, found: str) -> None:
    b, _ = batch((), [TensorSpec("image", "float32", (1,))])
    why = re.escape(f"output 'image': expected a list or an array with one value for each of the 3 rows, found {found}")
    with pytest.raises(SpecMismatch, match=why):
        b.finish({"image": values})


def test_a_value_without_its_row_axis_says_how_a_batch_of_one_is_returned() -> None:
    b, _ = batch((), [TensorSpec("image", "float32", (2, 3))], order=(0,))
    with pytest.raises(SpecMismatch, match=r"expected 1 rows, found 2; for a batch of one that is \[value\]"):
        b.finish({"image": np.zeros((2, 3), np.float32)})


def test_without_a_runtime_each_row_has_a_request_of_its_own() -> None:
    b, _ = batch()
    assert len({request.id for request in b.requests}) == 3
    assert [(request.name, request.child) for request in b.requests] == [("", ())] * 3


def test_requests_are_asked_for_once_and_only_where_the_stage_asks() -> None:
    asked: list[int] = []

    def requests() -> list[RequestInfo]:
        asked.append(1)
        return [RequestInfo("3fa9c-17", "cat.jpg")]

    made = Batch(1, {}, {}, lambda *_: np.empty(0), lambda *_: [], requests)
    assert asked == []
    assert [made.requests[0].name for _ in range(3)] == ["cat.jpg"] * 3
    assert asked == [1]


def test_an_output_that_was_forgotten_is_refused_for_its_slot_holds_another_requests_bytes(pixels: Array) -> None:
    b, _ = batch(specs=[IMAGE, TAGS])
    with pytest.raises(SpecMismatch, match="output 'tags' of row 0: process neither filled nor returned it"):
        b.finish({"image": pixels})


def test_a_failed_row_needs_no_outputs(pixels: Array) -> None:
    b, _ = batch(specs=[IMAGE])
    b.out(0, "image")[...] = 0
    b.fail(1, "empty file")
    b.fail(2, ZeroDivisionError("two"))
    b.finish(None)
    assert isinstance(b.failed[1], BadInput)
    assert str(b.failed[1]) == "empty file"
    assert isinstance(b.failed[2], ZeroDivisionError)


# -- answers in parts ------------------------------------------------------------------------------


def test_a_part_is_what_was_written_since_the_last_one() -> None:
    b, slots = batch(specs=[IMAGE, TAGS])
    b.write(1, "image", np.ones((2, 3), np.float32))
    assert b.part({"tags": [None, ["a"], None]}) == [1]
    assert (slots.read(1, "image") == 1).all()
    assert b.part(None) == []
    b.stack_out("image")[...] = 2
    assert b.part({"tags": [1, 2, 3]}) == [0, 1, 2]
    assert (slots.read(2, "image") == 2).all()
    b.end_parts()


def test_a_row_that_failed_has_no_part() -> None:
    b, _ = batch(specs=[IMAGE])
    b.fail(0, "empty file")
    assert b.part({"image": np.zeros((3, 2, 3), np.float32)}) == [1, 2]


def test_a_part_with_some_of_a_rows_outputs_is_refused() -> None:
    b, _ = batch(specs=[IMAGE, TAGS])
    b.out(1, "image")[...] = 0
    with pytest.raises(SpecMismatch, match="output 'tags' of row 1: other outputs of the row are in this part"):
        b.part(None)


def test_what_is_written_after_the_last_part_is_refused_since_no_part_has_it() -> None:
    b, _ = batch(specs=[IMAGE])
    b.part({"image": np.zeros((3, 2, 3), np.float32)})
    b.out(2, "image")[...] = 0
    with pytest.raises(SpecMismatch, match="output 'image' of row 2: written after the last yield"):
        b.end_parts()


# -- the contract's own example --------------------------------------------------------------------
