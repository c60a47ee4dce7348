"""A stage that is called directly: what it makes, and how it fails."""

from __future__ import annotations

import numpy as np
import pytest

from bench.direct import call, call_rows
from stages.batch import Batch
from stages.errors import BadInput
from stages.relay import Relay
from stages.spec import TensorSpec


class Halves:
    """One array in; its halves, how many there are, and the array itself out."""

    inputs = (TensorSpec("x", "uint8", (4,)),)
    outputs = (
        TensorSpec("halves", "uint8", (2,), many=2),
        TensorSpec("count", "uint8", ()),
        TensorSpec("x", "uint8", (4,), alias_of="x"),
    )

    def process(self, batch: Batch) -> None:
        (x,) = batch.rows("x")
        if not x.any():
            batch.fail(0, "only zeros")
        batch.write(0, "halves", [x[:2], x[2:]])
        batch.write(0, "count", 2)


def test_the_outputs_of_a_stage_come_by_name() -> None:
    x = np.array([1, 2, 3, 4], np.uint8)
    outputs = call(Halves(), x=x)  # type: ignore[arg-type]
    assert [half.tolist() for half in outputs["halves"]] == [[1, 2], [3, 4]]
    assert outputs["count"] == 2
    assert outputs["x"] is x


def test_an_alias_is_the_input_itself_and_nothing_is_copied() -> None:
    x = np.zeros(8, np.uint8)
    assert call(Relay(shape=[8]), tensor=x)["tensor"] is x  # type: ignore[arg-type]


def test_a_row_that_fails_raises_its_error() -> None:
    with pytest.raises(BadInput, match="only zeros"):
        call(Halves(), x=np.zeros(4, np.uint8))  # type: ignore[arg-type]


class Texts:
    """A sum, and the same as JSON."""

    inputs = (TensorSpec("x", "uint8", (4,)),)
    outputs = (TensorSpec("sum", "float32", ()), TensorSpec.json("text", max_bytes=8))

    def process(self, batch: Batch) -> None:
        for row, x in enumerate(batch.rows("x")):
            if not x.any():
                batch.fail(row, "only zeros")
                continue
            batch.out(row, "sum")[...] = x.sum()
            batch.write(row, "text", int(x.sum()))


def test_several_rows_come_as_one_array_or_as_a_list_where_each_has_a_size_of_its_own() -> None:
    made = call_rows(Texts(), x=np.array([[1, 2, 3, 4], [5, 5, 5, 5]], np.uint8))  # type: ignore[arg-type]
    assert made["sum"].tolist() == [10, 20]
    assert [text.tobytes() for text in made["text"]] == [b"10", b"20"]


def test_one_row_that_fails_fails_the_call() -> None:
    with pytest.raises(BadInput, match="only zeros"):
        call_rows(Texts(), x=np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.uint8))  # type: ignore[arg-type]
