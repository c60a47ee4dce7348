from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve import http_response
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Limits, Region, RequestedOutput
from tests.unit.pipeline.kserve.examples import RESPONSES, RESPONSES_TO_BREAK, mutations, simple_request, tensor_of

BINARY = simple_request(binary_output=True)
ARRAY = np.arange(4, dtype=np.int32)
RESPONSE = InferResponse("simple", "1", (tensor_of("OUTPUT0", ARRAY), tensor_of("OUTPUT1", -ARRAY)), "abc")


def sent(response: InferResponse, request: InferRequest) -> tuple[bytes, str | None]:
    body = http_response.encode(response, request)
    assert body.nbytes == len(b"".join(body.parts))
    return b"".join(body.parts), None if body.json_length is None else str(body.json_length)


def regions_of(response: InferResponse) -> dict[str, Region]:
    """As the client that has asked for them knows them."""
    return {output.name: output.region for output in response.outputs if output.region is not None}


@settings(max_examples=100)
@given(RESPONSES)
def test_a_response_is_the_same_after_a_round_trip(response: InferResponse) -> None:
    regions = regions_of(response)
    # A region is found by the name of its output.
    assume(len({output.name for output in response.outputs}) == len(response.outputs))
    assert http_response.decode(*sent(response, BINARY), regions=regions) == response


@settings(max_examples=150)
@given(st.data())
def test_a_broken_body_is_refused_or_read(data: st.DataObject) -> None:
    body, length = sent(data.draw(st.sampled_from(RESPONSES_TO_BREAK)), BINARY)
    try:
        found = http_response.decode(data.draw(mutations(body)), data.draw(st.sampled_from([length, None, "3"])))
    except KserveError:
        return
    assert all((output.data is None) != (output.region is None) for output in found.outputs)


def test_an_output_goes_as_bytes_if_it_or_else_the_request_says_so() -> None:
    outputs = (RequestedOutput("OUTPUT0", binary=False), RequestedOutput("OUTPUT1"))
    body, length = sent(RESPONSE, simple_request(binary_output=True, outputs=outputs))
    assert length is not None
    first, second = json.loads(body[: int(length)])["outputs"]
    assert first["data"] == [0, 1, 2, 3]
    assert second["parameters"] == {"binary_data_size": 16}
    assert body[int(length) :] == (-ARRAY).tobytes()


def test_without_a_word_of_it_the_answer_is_json_alone() -> None:
    body, length = sent(RESPONSE, simple_request())
    assert length is None
    assert json.loads(body) == {
        "id": "abc",
        "model_name": "simple",
        "model_version": "1",
        "outputs": [
            {"name": "OUTPUT0", "datatype": "INT32", "shape": [4], "data": [0, 1, 2, 3]},
            {"name": "OUTPUT1", "datatype": "INT32", "shape": [4], "data": [0, -1, -2, -3]},
        ],
    }


def test_an_output_in_shared_memory_has_neither_data_nor_bytes() -> None:
    apart = InferTensor("OUTPUT0", "INT32", (4,), None, Region("out", 0, 16))
    body, length = sent(dataclasses.replace(RESPONSE, outputs=(apart,)), simple_request())
    (output,) = json.loads(body)["outputs"]
    # No parameters: Triton's client for C++ expects `binary_data_size` among them.
    assert output == {"name": "OUTPUT0", "datatype": "INT32", "shape": [4]}
    assert length is None
    assert http_response.decode(body, regions={"OUTPUT0": Region("out", 0, 16)}).outputs == (apart,)
    with pytest.raises(KserveError, match="exactly one of"):
        http_response.decode(body, regions={"OUTPUT1": Region("out", 0, 16)})


def test_an_empty_output_as_bytes_has_the_header_as_well() -> None:
    empty = tensor_of("OUTPUT0", ARRAY[:0])
    body, length = sent(dataclasses.replace(RESPONSE, outputs=(empty,)), BINARY)
    assert length == str(len(body))
    assert http_response.decode(body, length).outputs == (empty,)


def test_numbers_that_json_does_not_have_are_written_as_triton_writes_them() -> None:
    array = np.array([np.nan, np.inf, -np.inf, 1.1, 0.1], np.float32)
    body, _ = sent(dataclasses.replace(RESPONSE, outputs=(tensor_of("O", array, "FP32"),)), simple_request())
    assert b'"data":[NaN,Infinity,-Infinity,1.100000023841858,0.10000000149011612]' in body
    (output,) = http_response.decode(body).outputs
    np.testing.assert_array_equal(np.frombuffer(output.data, np.float32), array)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        # Triton 2.51: 400.
        (tensor_of("O", np.zeros(1, np.float16), "FP16"), "sending FP16 data via JSON is not supported"),
        # Triton 2.51 sends JSON that is not UTF-8.
        (InferTensor("O", "BYTES", (1,), memoryview(b"\1\0\0\0\xff")), "expected UTF-8"),
        (InferTensor("O", "BYTES", (2,), memoryview(b"\1\0\0\0a")), "expected 2 string elements"),
    ],
)
def test_what_json_cannot_hold_is_not_written(tensor: InferTensor, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        http_response.encode(dataclasses.replace(RESPONSE, outputs=(tensor,)), simple_request())


def test_what_the_tests_break_was_whole() -> None:
    for each in RESPONSES_TO_BREAK:
        assert http_response.decode(*sent(each, BINARY), regions=regions_of(each)) == each


def test_parts_are_not_copied() -> None:
    assert http_response.encode(RESPONSE, BINARY).parts[1] is RESPONSE.outputs[0].data


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({}, "missing required field `model_name`"),
        ({"model_name": "m", "outputs": [{"name": "a"}]}, "missing required field `datatype`"),
        ({"model_name": "m", "parameters": {"x": []}}, "parameter 'x' of the response"),
    ],
)
def test_what_is_no_response_is_refused(document: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        http_response.decode(json.dumps(document).encode())


def test_more_outputs_than_the_limit_are_refused() -> None:
    body, length = sent(RESPONSE, BINARY)
    with pytest.raises(KserveError, match="at most 1 outputs, found 2"):
        http_response.decode(body, length, Limits(tensors=1))
