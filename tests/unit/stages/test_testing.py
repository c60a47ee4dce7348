from __future__ import annotations

import numpy as np
import pytest

from stages.errors import BadInput, SpecMismatch
from stages.relay import Relay
from stages.request import RequestInfo
from stages.spec import TensorSpec
from stages.stage import Batch
from stages.testing import batch_of, run


class Count:
    """Counts the pixels of a document's classes; refuses an empty mask."""

    inputs = (TensorSpec("mask", "uint8", ("n",), {"n": 8}), TensorSpec.json("names", 64))
    outputs = (TensorSpec.json("counts", 128), TensorSpec("total", "int64", ()))

    def process(self, batch: Batch) -> None:
        for row, mask in enumerate(batch.rows("mask")):
            if not mask.size:
                batch.fail(row, "empty mask")
                continue
            names = batch.document(row, "names")
            batch.write(row, "counts", {name: int((mask == i).sum()) for i, name in enumerate(names)})
            batch.out(row, "total")[...] = mask.size


def test_json_goes_in_and_comes_out_as_values() -> None:
    done = run(Count(), mask=[np.uint8([0, 1, 1]), np.uint8([0])], names=[["sky", "sea"], ["sky"]])
    assert done.result(0, "counts") == {"sky": 1, "sea": 2}
    assert done.result(1, "counts") == {"sky": 1}
    assert done.result(0, "total") == 3


def test_the_result_of_a_failed_row_is_its_error() -> None:
    done = run(Count(), mask=[np.uint8([]), np.uint8([1])], names=[[], []])
    with pytest.raises(BadInput, match="empty mask"):
        done.result(0, "counts")
    assert done.result(1, "total") == 1


def test_a_result_is_a_copy_and_inputs_are_read_only() -> None:
    batch = batch_of(Count(), mask=[np.uint8([1])], names=[[]])
    with pytest.raises(ValueError, match="read-only"):
        batch.rows("mask")[0][0] = 2
    Count().process(batch)
    before = batch.result(0, "total")
    batch.out(0, "total")[...] = 9
    assert before == 1


class Double:
    """Twice a number."""

    inputs = (TensorSpec("number", "float32", ()),)
    outputs = (TensorSpec("double", "float32", ()),)

    def process(self, batch: Batch) -> None:
        batch.stack_out("double")[...] = 2 * batch.stack("number")


def test_a_row_may_be_a_number() -> None:
    done = run(Double(), number=[np.float32(1.5), np.float32(4)])
    assert [float(done.result(row, "double")) for row in range(2)] == [3, 8]
    (row,) = batch_of(Double(), number=[np.float32(7)]).rows("number")
    assert row.shape == ()
    assert not row.flags.writeable


def test_what_does_not_fit_the_specs_is_refused() -> None:
    with pytest.raises(SpecMismatch, match=r"expected the inputs \['mask uint8\[n<=8\]', .*found \['mask'\]"):
        batch_of(Count(), mask=[np.uint8([1])])
    with pytest.raises(SpecMismatch, match=r"as many rows for each input, found \[1, 2\]"):
        batch_of(Count(), mask=[np.uint8([1])], names=[[], []])
    with pytest.raises(SpecMismatch, match="input 'mask': expected dtype uint8, found float64"):
        batch_of(Count(), mask=[np.zeros(3)], names=[[]])
    with pytest.raises(SpecMismatch, match="expected at most 8"):
        batch_of(Count(), mask=[np.zeros(9, np.uint8)], names=[[]])


def test_a_result_that_was_never_written_is_refused() -> None:
    batch = batch_of(Count(), mask=[np.uint8([1])], names=[[]])
    with pytest.raises(SpecMismatch, match="output 'counts' of row 0 was not written"):
        batch.result(0, "counts")


def test_an_alias_has_no_memory_of_its_own() -> None:
    done = run(Relay(shape=[4]), tensor=[np.arange(4, dtype=np.uint8)])
    with pytest.raises(SpecMismatch, match="no output 'tensor'"):
        done.result(0, "tensor")


@pytest.mark.parametrize("value", [np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
                                   np.arange(6, dtype=">f4").reshape(2, 3)])  # fmt: skip
def test_inputs_lie_as_in_a_slot_dense_and_in_this_machines_byte_order(value: np.ndarray) -> None:
    class Stage:
        inputs = (TensorSpec("x", "float32", (2, 3)),)
        outputs = ()

        def process(self, batch: Batch) -> None:
            """Nothing."""

    for rows in (batch_of(Stage(), x=[value]).rows("x"), batch_of(Stage(), x=[value, value]).rows("x")):
        for row in rows:
            assert row.tobytes() == np.arange(6, dtype=np.float32).tobytes()
            assert row.flags.c_contiguous
            assert row.dtype.isnative


class Named:
    """Says which requests its rows belong to."""

    inputs = (TensorSpec("name", "uint8", (1,)),)
    outputs = (TensorSpec.json("who", 256),)

    def process(self, batch: Batch) -> None:
        for row, request in enumerate(batch.requests):
            batch.write(row, "who", [request.id, request.name, list(request.child)])


def test_the_requests_of_a_batch_are_made_up_unless_they_are_given() -> None:
    one = np.zeros(1, np.uint8)
    made_up = run(Named(), name=[one, one])
    assert [made_up.result(row, "who") for row in range(2)] == [["00000-1", "", []], ["00000-2", "", []]]
    given = run(Named(), ["cat.jpg", RequestInfo("3fa9c-17", "page.png", (3,))], name=[one, one])
    assert [given.result(row, "who") for row in range(2)] == [["00000-1", "cat.jpg", []], ["3fa9c-17", "page.png", [3]]]
    with pytest.raises(SpecMismatch, match="expected 2 requests, one for each row, found 1"):
        batch_of(Named(), ["cat.jpg"], name=[one, one])
