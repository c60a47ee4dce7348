"""Arrays of a call to requests of KServe, and responses to values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InvalidRequest, KserveError
from pipeline.kserve.datatypes import joined
from pipeline.kserve.values import InferResponse, InferTensor, Region
from pipeline.remote.description import Description
from pipeline.remote.incoming import column_values, joined_batch, one_row, row_of
from pipeline.remote.outgoing import check_options, pieces_of, rows_of_call, scheduling
from pipeline.wire.interface import Axis, Interface, Tensor
from shm.handle import BYTES, JSON

TENSORS = (
    Tensor("x", "float32", (Axis("", 2),)),
    Tensor("names", BYTES, (Axis("n", 4), Axis("bytes", 99))),
    Tensor("doc", JSON, (Axis("bytes", 50),)),
)


def model(most: int = 0) -> Description:
    interface = Interface("m", "1", TENSORS, TENSORS, (), most)
    return Description("m", interface, "", (), interface.specs)


def given(rows: int) -> dict[str, Any]:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    names = np.array([[b"a", b"bc"]] * rows, object)
    return {"x": x, "names": names, "doc": [{"row": n} for n in range(rows)]}


def one() -> dict[str, Any]:
    return {name: value[0] for name, value in given(1).items()}


def made(description: Description, values: dict[str, Any], request_id: str = "r") -> list[Any]:
    rows, is_batch = rows_of_call(description, values)
    return pieces_of(description, rows, request_id, {}, values if is_batch else None)


def test_a_request_has_the_batch_axis_that_the_server_has() -> None:
    ((request, rows),) = made(model(4), one())
    assert (rows, request.id) == (1, "r")
    assert [(t.name, t.datatype, t.shape) for t in request.inputs] == [
        ("x", "FP32", (1, 2)), ("names", "BYTES", (1, 2)), ("doc", "BYTES", (1, 1))
    ]  # fmt: skip
    ((request, _),) = made(model(), one())
    assert [t.shape for t in request.inputs] == [(2,), (2,), (1,)]
    assert bytes(request.inputs[2].data) == joined([b'{"row": 0}'])


def test_a_batch_goes_in_pieces_of_what_the_server_takes() -> None:
    values = given(5)
    pieces = made(model(2), values)
    assert [rows for _, rows in pieces] == [2, 2, 1]
    assert [request.id for request, _ in pieces] == ["r/0", "r/1", "r/2"]
    assert np.frombuffer(pieces[1][0].inputs[0].data, np.float32).tolist() == [4, 5, 6, 7]
    assert bytes(pieces[2][0].inputs[2].data) == joined([b'{"row": 4}'])


def test_a_batch_for_a_server_without_a_batch_axis_is_as_many_requests() -> None:
    pieces = made(model(), given(3))
    assert [(rows, request.inputs[0].shape) for request, rows in pieces] == [(1, (2,))] * 3


def test_tensors_are_views_of_a_dense_batch_and_copies_of_one_with_gaps() -> None:
    values = given(4)
    ((request, _),) = made(model(4), values)
    assert np.shares_memory(np.frombuffer(request.inputs[0].data, np.uint8), values["x"])
    values["x"] = np.arange(16, dtype=np.float32).reshape(4, 4)[:, ::2]
    ((request, _),) = made(model(4), values)
    assert np.frombuffer(request.inputs[0].data, np.float32).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_arrays_of_the_other_order_of_bytes_are_sent_with_their_values() -> None:
    for rows in (0, 4):
        values = given(rows) if rows else one()
        values["x"] = (values["x"] + 1).astype(">f4")
        ((request, _),) = made(model(4), values)
        assert np.frombuffer(request.inputs[0].data, "<f4").tolist() == values["x"].ravel().tolist()


def test_rows_of_different_shapes_are_no_tensor() -> None:
    names = np.empty((2, 1), object)
    names[...] = b"a"
    rows, _ = rows_of_call(model(4), {**given(2), "names": names})
    rows[1]["names"] = np.array([b"a", b"b"], object)
    with pytest.raises(InvalidRequest, match="rows of different shapes"):
        pieces_of(model(4), rows, "r", {})


def test_options_of_a_call() -> None:
    assert scheduling(1.5, 2) == {"timeout": 1500, "priority": 3}
    assert scheduling(None, 0, in_parts=True) == {"triton_enable_empty_final_response": True}
    for wrong in ((0, 0, 0), (1, 10, 0), (1, 0, -1), (1, 0, True)):
        with pytest.raises(InvalidRequest):
            check_options(*wrong)


def tensor(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> InferTensor:
    return InferTensor(name, datatype, shape, memoryview(data))


def response(rows: int, *, x: bytes | None = None, **changes: Any) -> InferResponse:
    data = np.arange(2 * rows, dtype=np.float32).tobytes() if x is None else x
    outputs = [
        tensor("doc", "BYTES", (rows, 1), joined([json.dumps({"row": n}).encode() for n in range(rows)])),
        tensor("names", "BYTES", (rows, 2), joined([b"a\0", b""] * rows)),
        tensor("x", "FP32", (rows, 2), data),
    ]
    return InferResponse("m", "1", tuple(outputs))


def test_values_come_in_the_order_of_the_interface_and_are_read_only_views() -> None:
    answer = response(2)
    columns = column_values(model(4), answer, 2)
    assert list(columns) == ["x", "names", "doc"]
    assert columns["x"].tolist() == [[0, 1], [2, 3]]
    assert not columns["x"].flags.writeable
    assert columns["names"].tolist() == [[b"a\0", b""]] * 2
    assert row_of(columns["doc"], 1) == {"row": 1}
    single = one_row(column_values(model(4), response(1), 1))
    assert (single["x"].tolist(), single["doc"]) == ([0, 1], {"row": 0})


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ([tensor("z", "FP32", (1, 2), b"")], "expected the outputs x, names, doc, found 'z'"),
        ([tensor("x", "FP32", (1, 2), bytes(8))] * 2, "came twice"),
        ([tensor("x", "INT32", (1, 2), bytes(8))], "expected FP32, found INT32"),
        ([tensor("x", "FP32", (2, 2), bytes(16))], r"expected shape \[1, 2\], found \[2, 2\]"),
        ([tensor("x", "FP32", (1, 3), bytes(12))], r"expected shape \[1, 2\]"),
        ([tensor("x", "FP32", (2,), bytes(8))], r"expected shape \[1, 2\]"),
        ([tensor("x", "FP32", (1, 2), bytes(7))], "expected 8 bytes"),
        ([tensor("names", "BYTES", (1, 2), b"\5\0\0\0ab")], "found 6 bytes"),
        ([tensor("names", "BYTES", (1, 1), b"\5\0\0\0ab")], "incomplete string data"),
        ([tensor("doc", "BYTES", (1, 1), joined([b"{"]))], "expected a JSON document"),
        ([InferTensor("x", "FP32", (1, 2), None, Region("r", 0, 8))], "not asked to write"),
    ],
)
def test_an_answer_that_is_not_what_the_model_says_is_refused(outputs: list[InferTensor], why: str) -> None:
    with pytest.raises(KserveError, match=why):
        column_values(model(4), InferResponse("m", "1", tuple(outputs)), 1)


def test_the_pieces_of_a_batch_are_joined_and_the_copy_is_counted() -> None:
    first, second = column_values(model(2), response(2), 2), column_values(model(2), response(1), 1)
    values, copied = joined_batch(model(2).interface, [(first, 2), (second, 1)])
    assert values["x"].tolist() == [[0, 1], [2, 3], [0, 1]]
    assert copied == values["x"].nbytes
    assert values["doc"] == [{"row": 0}, {"row": 1}, {"row": 0}]
    # A free dimension: a list of arrays, as of a pipeline.
    assert [each.tolist() for each in values["names"]] == [[b"a\0", b""]] * 3
    values, copied = joined_batch(model(2).interface, [(first, 2)])
    assert copied == 0


def test_an_output_that_was_skipped_in_a_piece_is_none_there() -> None:
    first, second = column_values(model(2), response(2), 2), {}
    values, _ = joined_batch(model(2).interface, [(first, 2), (second, 1)])
    assert values["doc"] == [{"row": 0}, {"row": 1}, None]
    assert values["x"][2] is None
