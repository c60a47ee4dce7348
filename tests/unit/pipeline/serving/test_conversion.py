"""Requests to arrays of rows, and results to tensors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pipeline.errors import KserveError
from pipeline.kserve.admission import admit
from pipeline.kserve.datatypes import joined
from pipeline.kserve.model import Model
from pipeline.kserve.values import InferRequest, InferTensor, RequestedOutput
from pipeline.serving.conversion import rows_of, tensors_of, together_of
from pipeline.wire.interface import Axis, Interface, Tensor
from tests.unit.pipeline.kserve.examples import SIMPLE, simple_request


def model_of(tensor: Tensor, most: int = 0) -> Model:
    return Model(Interface("m", "1", (tensor,), (tensor,), ("s",)), most)


def rows(model: Model, data: bytes, shape: tuple[int, ...], datatype: str) -> list[dict[str, Any]]:
    request = InferRequest("m", "", (InferTensor("x", datatype, shape, memoryview(data)),))
    return rows_of(admit(request, model), {"x": memoryview(data)})


NUMBERS = Tensor("x", "int16", (Axis("n", 9), Axis("", 2)))
TEXTS = Tensor("x", "bytes", (Axis("n", 9), Axis("bytes", 100)))
DOCUMENT = Tensor("x", "json", (Axis("bytes", 100),))


def test_n_rows_are_n_requests_over_the_bytes_that_came() -> None:
    request = simple_request(3)
    data = {tensor.name: tensor.data for tensor in request.inputs}
    found = rows_of(admit(request, Model(SIMPLE, 8)), data)  # type: ignore[arg-type]
    assert [row["INPUT1"].tolist() for row in found] == np.arange(48).reshape(3, 16).tolist()
    whole = np.frombuffer(data["INPUT1"], np.int32)  # type: ignore[arg-type]
    assert all(np.shares_memory(row["INPUT1"], whole) for row in found)


def test_without_a_batch_axis_a_request_is_one() -> None:
    (row,) = rows(model_of(NUMBERS), np.arange(6, dtype=np.int16).tobytes(), (3, 2), "INT16")
    assert row["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert row["x"].dtype == np.int16


def test_an_empty_tensor_keeps_its_shape() -> None:
    (row,) = rows(model_of(NUMBERS), b"", (0, 2), "INT16")
    assert row["x"].shape == (0, 2)


def test_a_single_value_is_an_array_of_no_dimensions() -> None:
    scalar = model_of(Tensor("x", "float32", ()), 4)
    found = rows(scalar, np.array([1.5, 2.5], np.float32).tobytes(), (2,), "FP32")
    assert [(row["x"].shape, float(row["x"])) for row in found] == [((), 1.5), ((), 2.5)]


def test_bfloat16_keeps_its_bits() -> None:
    values = np.array([[1.0, -2.5]], ml_dtypes.bfloat16)
    model = model_of(Tensor("x", "bfloat16", (Axis("", 1), Axis("", 2))))
    (row,) = rows(model, values.tobytes(), (1, 2), "BF16")
    assert (row["x"] == values).all()
    (tensor,) = tensors_of(model, (RequestedOutput("x"),), [row])
    assert bytes(tensor.data or b"") == values.tobytes()


def test_elements_of_bytes_are_cut_into_rows_and_come_back_as_they_were() -> None:
    data = joined([b"", b"a\0b", b"c" * 9, b"\xff"])
    model = model_of(TEXTS, 8)
    found = rows(model, data, (2, 2), "BYTES")
    assert [row["x"].tolist() for row in found] == [[b"", b"a\0b"], [b"c" * 9, b"\xff"]]
    (tensor,) = tensors_of(model, (RequestedOutput("x"),), found)
    assert (bytes(tensor.data or b""), tensor.shape) == (data, (2, 2))


def test_a_json_document_is_its_text() -> None:
    (row,) = rows(model_of(DOCUMENT), joined([b'{"a": 1}']), (1,), "BYTES")
    assert row["x"].tobytes() == b'{"a": 1}'


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"1e999", b'"\\ud800"'])
def test_what_is_no_json_is_refused_before_it_gets_to_a_stage(text: bytes) -> None:
    model = model_of(Tensor("x", "json", (Axis("bytes", 200_000),)))
    with pytest.raises(KserveError, match="JSON"):
        rows(model, joined([text]), (1,), "BYTES")


def test_the_value_of_a_json_output_is_one_element() -> None:
    (tensor,) = tensors_of(model_of(DOCUMENT, 4), (RequestedOutput("x"),), [{"x": {"a": 1}}, {"x": None}])
    assert (bytes(tensor.data or b""), tensor.shape) == (joined([b'{"a": 1}', b"null"]), (2, 1))


def test_results_of_several_rows_are_stacked_and_that_is_counted() -> None:
    values = [{"x": np.full((2, 2), number, np.int16)} for number in range(3)]
    (tensor,) = tensors_of(model_of(NUMBERS, 8), (RequestedOutput("x"),), values)
    assert (tensor.shape, tensor.copied) == ((3, 2, 2), 24)
    assert np.frombuffer(tensor.data or b"", np.int16).reshape(3, 4)[:, 0].tolist() == [0, 1, 2]


def test_one_row_is_not_copied() -> None:
    value = np.arange(4, dtype=np.int16).reshape(2, 2)
    (tensor,) = tensors_of(model_of(NUMBERS, 8), (RequestedOutput("x"),), [{"x": value}])
    assert (tensor.shape, tensor.copied) == ((1, 2, 2), 0)
    assert np.shares_memory(np.frombuffer(tensor.data or b"", np.int16), value)


def test_an_empty_output_has_no_bytes() -> None:
    (tensor,) = tensors_of(model_of(NUMBERS), (RequestedOutput("x"),), [{"x": np.empty((0, 2), np.int16)}])
    assert (bytes(tensor.data or b""), tensor.shape) == (b"", (0, 2))


def test_rows_of_different_shapes_are_no_tensor() -> None:
    values = [{"x": np.zeros((n, 2), np.int16)} for n in (1, 2)]
    with pytest.raises(KserveError, match="different shapes") as refused:
        tensors_of(model_of(NUMBERS, 8), (RequestedOutput("x"),), values)
    assert refused.value.code == "UNIMPLEMENTED"


def test_an_output_that_was_skipped_is_left_out() -> None:
    assert tensors_of(model_of(NUMBERS, 8), (RequestedOutput("x"),), [{}, {}]) == ()


def test_an_output_that_was_skipped_for_some_rows_is_no_tensor() -> None:
    with pytest.raises(KserveError, match="1 of 2 rows"):
        tensors_of(model_of(NUMBERS, 8), (RequestedOutput("x"),), [{"x": np.zeros((1, 2), np.int16)}, {}])


def test_outputs_come_in_the_order_in_which_they_were_asked_for_and_as_classes() -> None:
    model = Model(SIMPLE, 8)
    values = [{"OUTPUT0": np.arange(16, dtype=np.int32), "OUTPUT1": -np.arange(16, dtype=np.int32)}]
    wanted = (RequestedOutput("OUTPUT1"), RequestedOutput("OUTPUT0", classes=2))
    found = tensors_of(model, wanted, values)
    assert [tensor.name for tensor in found] == ["OUTPUT1", "OUTPUT0"]
    assert (found[1].shape, bytes(found[1].data or b"")) == ((1, 2), joined([b"15:15", b"14:14"]))


def test_rows_that_go_together_are_views_of_the_bytes_that_came_and_their_answer_is_no_copy() -> None:
    request = simple_request(3)
    data = {tensor.name: tensor.data for tensor in request.inputs}
    model = Model(SIMPLE, 8)
    admitted = admit(request, model)
    ((rows, arrays),) = together_of(admitted, data, 8)  # type: ignore[arg-type]
    assert (rows, arrays["INPUT1"].tolist()) == (3, np.arange(48).reshape(3, 16).tolist())
    assert np.shares_memory(arrays["INPUT1"], np.frombuffer(data["INPUT1"], np.int32))  # type: ignore[arg-type]
    pieces = together_of(admitted, data, 2)  # type: ignore[arg-type]
    assert [(rows, arrays["INPUT1"].shape) for rows, arrays in pieces] == [(2, (2, 16)), (1, (1, 16))]
    answer = np.arange(48, dtype=np.int32).reshape(3, 16)
    (whole,) = tensors_of(model, (RequestedOutput("OUTPUT0"),), [{"OUTPUT0": answer}], True)
    assert (whole.shape, whole.copied) == ((3, 16), 0)
    assert np.shares_memory(np.frombuffer(whole.data, np.int32), answer)  # type: ignore[arg-type]
    (put,) = tensors_of(model, (RequestedOutput("OUTPUT0"),), [{"OUTPUT0": answer[:2]}, {"OUTPUT0": answer[2:]}], True)
    assert (put.shape, put.copied, bytes(put.data or b"")) == ((3, 16), answer.nbytes, answer.tobytes())
