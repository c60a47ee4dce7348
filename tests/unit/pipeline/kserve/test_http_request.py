from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve import http_request
from pipeline.kserve.statuses import status_of
from pipeline.kserve.values import InferRequest, InferTensor, Limits, Region
from tests.unit.pipeline.kserve.examples import (
    PARAMETERS,
    REQUESTS,
    REQUESTS_TO_BREAK,
    mutations,
    simple_request,
    typed_tensors,
)

SIXTEEN = list(range(16))


def sent(request: InferRequest, binary: bool = True) -> tuple[bytes, str | None]:
    body = http_request.encode(request, binary)
    return b"".join(body.parts), None if body.json_length is None else str(body.json_length)


def read(body: bytes, length: str | None = None, limits: Limits | None = None) -> InferRequest:
    return http_request.decode("simple", "", body, length, limits or Limits())


def an_input(name: str = "INPUT0", **changes: Any) -> dict[str, Any]:
    document = {"name": name, "datatype": "INT32", "shape": [1, 16], "data": SIXTEEN, **changes}
    return {key: value for key, value in document.items() if value is not ...}


def of_json(*inputs: dict[str, Any], tail: bytes = b"", **more: Any) -> InferRequest:
    text = json.dumps({"inputs": list(inputs) or [an_input()], **more}).encode()
    return read(text + tail, str(len(text)) if tail else None)


@settings(max_examples=100)
@given(REQUESTS)
def test_a_request_is_the_same_after_a_round_trip(request: InferRequest) -> None:
    body, length = sent(request)
    assert http_request.decode(request.model, request.version, body, length) == request


@settings(max_examples=100)
@given(st.lists(typed_tensors(), max_size=3), PARAMETERS)
def test_a_request_in_json_alone_is_the_same(tensors: list[tuple[InferTensor, Any]], parameters: Any) -> None:
    request = InferRequest("m", "", tuple(tensor for tensor, _ in tensors), parameters=parameters)
    body, length = sent(request, binary=False)
    assert length is None
    found = http_request.decode("m", "", body)
    for tensor, back in zip(request.inputs, found.inputs):
        if tensor.datatype in ("FP32", "FP64"):  # a NaN is any of several
            kind = "<f4" if tensor.datatype == "FP32" else "<f8"
            np.testing.assert_array_equal(np.frombuffer(back.data, kind), np.frombuffer(tensor.data, kind))  # type: ignore[arg-type]
        else:
            assert dataclasses.replace(back, copied=0) == tensor


@settings(max_examples=150)
@given(st.data())
def test_a_broken_body_is_refused_or_read(data: st.DataObject) -> None:
    request = data.draw(st.sampled_from(REQUESTS_TO_BREAK))
    body, length = sent(request, data.draw(st.booleans()) and request is not REQUESTS_TO_BREAK[0])
    broken = data.draw(mutations(body))
    header = data.draw(st.sampled_from([length, None, "0", "7", str(len(body) + 1)]) | st.text(max_size=4))
    try:
        found = http_request.decode("m", "", broken, header)
    except KserveError as error:
        refusal = error
    else:
        assert all(each.copied == 0 or each.copied == each.data.nbytes for each in found.inputs if each.data is not None)
        return
    assert 400 <= status_of(refusal).http < 500


@settings(max_examples=150)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), inner, max_size=4), max_leaves=12), st.sampled_from(["INT8", "UINT64", "FP32", "BOOL", "BYTES", "FP16"]), st.lists(st.integers(0, 3), max_size=3))
def test_any_json_in_place_of_data_is_refused_or_has_the_elements_of_its_shape(value: Any, datatype: str, shape: list[int]) -> None:
    try:
        request = of_json(an_input(data=value, datatype=datatype, shape=shape))
    except KserveError:
        return
    (tensor,) = request.inputs
    assert tensor.data is not None
    assert datatype == "BYTES" or tensor.data.nbytes == np.prod(shape) * {"INT8": 1, "BOOL": 1, "FP32": 4, "UINT64": 8}[datatype]


def test_what_the_tests_break_was_whole() -> None:
    for request in REQUESTS_TO_BREAK:
        assert http_request.decode(request.model, request.version, *sent(request)) == request


def test_binary_inputs_are_views_into_the_body_and_parts_are_not_copied() -> None:
    request = simple_request()
    assert http_request.encode(request).parts[1] is request.inputs[0].data
    body, length = sent(request)
    found = read(body, length).inputs
    assert [each.copied for each in found] == [0, 0]
    assert found[1].data is not None
    assert found[1].data.obj is body


def test_blobs_follow_in_the_order_of_inputs_and_skip_those_that_came_otherwise() -> None:
    apart = {"shared_memory_region": "r", "shared_memory_byte_size": 64, "shared_memory_offset": 8}
    request = of_json(
        an_input("a", data=..., parameters={"binary_data_size": 4}, shape=[1]),
        an_input("b"),
        an_input("c", data=..., parameters=apart),
        an_input("d", data=..., parameters={"binary_data_size": 4}, shape=[1]),
        tail=b"aaaadddd",
    )
    assert [each.data and bytes(each.data) for each in request.inputs][::3] == [b"aaaa", b"dddd"]
    assert request.inputs[2].region == Region("r", 8, 64)
    assert [each.copied for each in request.inputs] == [0, 64, 0, 0]


@pytest.mark.parametrize(
    ("inputs", "tail", "part"),
    [
        # Triton 2.51 answers each of these with 400.
        ([an_input(data=..., parameters={"binary_data_size": 64})], b"\0" * 63, "expected 64 bytes behind the JSON .* found 63"),
        ([an_input(data=..., parameters={"binary_data_size": 64})], b"", "expected 64 bytes .* found 0"),
        ([an_input(data=..., parameters={"binary_data_size": 64}), an_input("b", data=..., parameters={"binary_data_size": 64})], b"\0" * 100, "size for input 'b': expected 64 bytes .* found 36"),
        ([an_input()], b"12345678", "unexpected additional input data: expected 0 bytes .* found 8"),
        ([an_input(data=..., parameters={"binary_data_size": 8})], b"\0" * 9, "expected 8 bytes .* found 9"),
        ([an_input(parameters={"binary_data_size": 64})], b"\0" * 64, "exactly one .* found 'data' and 'binary_data_size'"),
        ([an_input(data=...)], b"", "exactly one .* found none"),
        ([an_input(parameters={"shared_memory_region": "x", "shared_memory_byte_size": 64})], b"", "'data' and 'shared_memory_region'"),
        ([an_input(data=..., parameters={"shared_memory_byte_size": 64})], b"", "exactly one .* found none"),
        ([an_input(datatype="INT33")], b"", "invalid datatype for input 'INPUT0'"),
        ([an_input(datatype="int32")], b"", "invalid datatype for input 'INPUT0'"),
        ([an_input(datatype="FP16")], b"", "receiving FP16 data via JSON is not supported"),
        ([an_input(datatype="BF16")], b"", "receiving BF16 data via JSON is not supported"),
        ([an_input(parameters={"x": None})], b"", "parameter 'x' of input 'INPUT0': expected an int, a bool"),
        # And these with 500, though the sender is at fault.
        ([an_input(data=..., parameters={"binary_data_size": -64})], b"\0" * 64, "'binary_data_size' .* whole number"),
        ([an_input(data=..., parameters={"binary_data_size": 64.0})], b"\0" * 64, "'binary_data_size' .* whole number"),
        ([an_input(data=..., parameters={"binary_data_size": True})], b"\0", "'binary_data_size' .* whole number"),
        ([an_input(shape=[-1, 16])], b"", "Expected `int` >= 0"),
        ([an_input(shape=[1.0, 16])], b"", "Expected `int`, got `float`"),
        ([an_input(shape=...)], b"", "missing required field `shape`"),
        ([an_input(name=...)], b"", "missing required field `name`"),
        ([an_input(data=None)], b"", "input 'INPUT0': in its data: Expected `array`, got `null`"),
        ([an_input(data=SIXTEEN[:5])], b"", "expected 16 elements"),
        ([an_input(data=SIXTEEN * 2)], b"", "expected 16 elements"),
        # And this with 404, of the region: it takes the size for 0.
        ([an_input(data=..., parameters={"shared_memory_region": "x"})], b"", "expected 'shared_memory_byte_size' beside it"),
    ],
)
def test_an_input_that_does_not_add_up_is_refused(inputs: list[Any], tail: bytes, part: str) -> None:
    with pytest.raises(KserveError, match=part) as caught:
        of_json(*inputs, tail=tail)
    assert status_of(caught.value).http == 400


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "expected the request as JSON"),
        (b"{", "expected the request as JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs":{}}', "Expected `array`"),
        (b'{"inputs":[]} x', "trailing characters"),
        (b'{"inputs":[],"id":5}', "Expected `str`"),
        (b'{"inputs":[],"outputs":null}', "Expected `array`"),
        (b'{"inputs":[],"outputs":[{}]}', "missing required field `name`"),
        (b'{"inputs":[],"parameters":[1]}', "Expected `object`"),
        (b'{"inputs":[],"id":"\xff"}', "request's JSON|expected the request"),
        (b'{"inputs":[],"id":"\\ud800"}', "request's JSON|expected the request"),
        (b'{"inputs":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"inputs":[],"parameters":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
        (b'{"inputs":[],"x":NaN,"y":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"inputs":[],"parameters":{"x":NaN,"y":' + b"1" * 5000 + b"}}", "the request's JSON"),
        (b'{"inputs":[],"parameters":{"x":18446744073709551616}}', "an integer of 64 bits"),
        (b'{"inputs":[],"NaN":}', "the request's JSON"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        read(body)


def test_keys_that_are_unknown_are_skipped_and_white_space_may_follow() -> None:
    body = json.dumps({"inputs": [{**an_input(), "y": {"z": [1]}}], "x": [[1]]}).encode() + b" \n"
    assert read(body).inputs[0].shape == (1, 16)


@pytest.mark.parametrize("text", ["abc", "-1", "+5", "5 x", "", "1.0", "٣", "9" * 5000, "1000"])
def test_a_header_that_is_no_length_within_the_body_is_refused(text: str) -> None:
    with pytest.raises(KserveError, match="Inference-Header-Content-Length: expected"):
        read(b'{"inputs":[]}', text)


@pytest.mark.parametrize(
    ("limits", "part", "http"),
    [
        (Limits(body=10), "a body of at most 10 bytes", 413),
        (Limits(json=10), "at most 10 bytes of JSON", 413),
        (Limits(tensors=0), "at most 0 inputs", 400),
        (Limits(rank=1), "at most 1 axes", 400),
        (Limits(parameters=1), "at most 1 parameters of the request", 400),
    ],
)
def test_more_than_the_limits_allow_is_refused(limits: Limits, part: str, http: int) -> None:
    text = json.dumps({"inputs": [an_input()], "parameters": {"a": 1, "b": 2}}).encode()
    with pytest.raises(KserveError, match=part) as caught:
        read(text, limits=limits)
    assert status_of(caught.value).http == http


def test_requested_outputs_say_how_they_come() -> None:
    into = {"shared_memory_region": "r", "shared_memory_byte_size": 64}
    request = of_json(
        outputs=[
            {"name": "a", "parameters": {"binary_data": True, "x": 1}},
            {"name": "b", "parameters": {"classification": 3}},
            {"name": "c", "parameters": into},
            {"name": "d"},
        ],
        parameters={"binary_data_output": True, "timeout": 5},
    )
    a, b, c, d = request.outputs
    assert (a.binary, dict(a.parameters), b.classes, c.region, d.binary) == (True, {"x": 1}, 3, Region("r", 0, 64), None)
    assert (request.binary_output, dict(request.parameters)) == (True, {"timeout": 5})


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"binary_data": 1}, "'binary_data' of output 'a': expected true or false"),
        ({"classification": -1}, "'classification' of output 'a': expected a whole number"),
        ({"classification": 1, "shared_memory_region": "r", "shared_memory_byte_size": 1}, "found both"),
        ({"shared_memory_region": 5, "shared_memory_byte_size": 1}, "expected a name"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 1, "shared_memory_offset": -1}, "whole number"),
    ],
)
def test_a_requested_output_that_makes_no_sense_is_refused(parameters: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        of_json(outputs=[{"name": "a", "parameters": parameters}])


def test_too_many_outputs_and_a_switch_that_is_none_are_refused() -> None:
    with pytest.raises(KserveError, match="at most 1024 outputs"):
        of_json(outputs=[{"name": "a"}] * 1025)
    with pytest.raises(KserveError, match="'binary_data_output' of the request: expected true or false"):
        of_json(parameters={"binary_data_output": 1})


class TestRaw:
    """All of the body is the only input's bytes."""

    def test_the_free_extent_follows_from_the_bytes(self) -> None:
        request = http_request.decode_raw("m", "", struct.pack("<6f", *range(6)), "INPUT0", "FP32", (1, -1, 2))
        assert (request.inputs[0].shape, request.inputs[0].copied, request.binary_output) == ((1, 3, 2), 0, True)
        assert http_request.decode_raw("m", "", b"", "INPUT0", "FP32", (-1,)).inputs[0].shape == (0,)

    def test_bytes_are_one_element(self) -> None:
        (tensor,) = http_request.decode_raw("m", "", b"hello", "INPUT0", "BYTES", (1, 1)).inputs
        assert (bytes(tensor.data or b""), tensor.shape) == (b"\x05\0\0\0hello", (1, 1))
        assert tensor.copied == 9

    @pytest.mark.parametrize(
        ("body", "datatype", "shape", "part"),
        [
            # Triton 2.51 answers each with 400.
            (b"12345", "FP32", (-1,), "expected a multiple of 4 bytes, found 5"),
            (b"12345", "FP32", (1,), "expected 4, found 5"),
            (b"1234", "FP32", (-1, -1), "at most one free extent"),
            (b"hello", "BYTES", (2,), r"must have input shape \[1\]"),
            (b"1234", "FP32", (0, -1), "expected a multiple of 0 bytes"),
        ],
    )
    def test_bytes_that_fill_no_such_shape_are_refused(self, body: bytes, datatype: str, shape: tuple[int, ...], part: str) -> None:
        with pytest.raises(KserveError, match=part):
            http_request.decode_raw("m", "", body, "INPUT0", datatype, shape)

    def test_a_body_beyond_the_limit_is_refused(self) -> None:
        with pytest.raises(KserveError, match="at most 3 bytes") as caught:
            http_request.decode_raw("m", "", b"1234", "INPUT0", "FP32", (1,), Limits(body=3))
        assert status_of(caught.value).http == 413


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (simple_request(parameters={"x": float("nan")}), "parameter 'x' of the request: expected a finite number"),
        (simple_request(inputs=(InferTensor("a", "INT32", (1,)),)), "neither data nor a region"),
        (simple_request(inputs=(InferTensor("a", "INT32", (1,), memoryview(b"12345")),)), "expected 4 bytes"),
    ],
)
def test_what_a_body_cannot_have_is_not_written(request_: InferRequest, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        http_request.encode(request_)
