from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve import grpc_request
from pipeline.kserve.messages import message
from pipeline.kserve.parameters import take_output, take_region
from pipeline.kserve.values import InferRequest, InferTensor, Limits, Region
from pipeline.kserve.wireformat import bytes_field, varint
from tests.unit.pipeline.kserve.examples import (
    REQUESTS,
    REQUESTS_TO_BREAK,
    mutations,
    raw_tensors,
    simple_request,
    typed_tensors,
)


def frame_of(request: InferRequest) -> bytes:
    return b"".join(grpc_request.encode(request))


#: Typed contents of each kind, packed or not.
TYPED = b"".join(
    message("ModelInferRequest")(
        inputs=[{"name": name, "datatype": datatype, "shape": [2], "contents": {field: values}}]
    ).SerializeToString()
    for name, datatype, field, values in (
        ("a", "BYTES", "bytes_contents", [b"x", b""]),
        ("b", "INT8", "int_contents", [-1, 5]),
        ("c", "FP32", "fp32_contents", [1, 2]),
        ("d", "BOOL", "bool_contents", [True, False]),
    )
)


def over_grpc(request: InferRequest) -> InferRequest:
    """Without what only HTTP has."""
    return dataclasses.replace(request, binary_output=False)


def parameters_of(entries: Any) -> dict[str, Any]:
    found = {}
    for name, value in entries.items():
        field = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, field) if field else None
    return found


def value_of(parsed: Any) -> InferRequest:
    """What protobuf's own class has read, as ours; for requests whose inputs are raw or in regions."""
    raw = iter(parsed.raw_input_contents)
    inputs = []
    for each in parsed.inputs:
        parameters = parameters_of(each.parameters)
        region = take_region(parameters, "")
        data = None if region else memoryview(next(raw))
        inputs.append(InferTensor(each.name, each.datatype, tuple(each.shape), data, region, parameters))
    outputs = tuple(take_output(each.name, parameters_of(each.parameters)) for each in parsed.outputs)
    return InferRequest(
        parsed.model_name, parsed.model_version, tuple(inputs), outputs, parsed.id, parameters_of(parsed.parameters)
    )


@settings(max_examples=100)
@given(REQUESTS)
def test_a_request_is_the_same_after_a_round_trip_and_to_protobufs_own_classes(request: InferRequest) -> None:
    frame = frame_of(request)
    assert grpc_request.decode(frame) == over_grpc(request)
    assert value_of(message("ModelInferRequest").FromString(frame)) == over_grpc(request)


@settings(max_examples=100)
@given(REQUESTS)
def test_what_protobufs_own_classes_write_is_read(request: InferRequest) -> None:
    written = message("ModelInferRequest").FromString(frame_of(request)).SerializeToString()
    assert grpc_request.decode(written) == over_grpc(request)


@settings(max_examples=150)
@given(st.data())
def test_a_broken_frame_is_refused_or_read_as_protobuf_reads_it(data: st.DataObject) -> None:
    frame = data.draw(st.sampled_from([*map(frame_of, REQUESTS_TO_BREAK), TYPED]).flatmap(mutations))
    try:
        found = grpc_request.decode(frame)
    except KserveError:
        return
    parsed = message("ModelInferRequest").FromString(frame)  # what ours reads, protobuf reads
    assert (found.model, found.version, found.id) == (parsed.model_name, parsed.model_version, parsed.id)
    assert [output.name for output in found.outputs] == [output.name for output in parsed.outputs]
    assert [each.shape for each in found.inputs] == [tuple(each.shape) for each in parsed.inputs]
    assert [each.datatype for each in found.inputs] == [each.datatype for each in parsed.inputs]
    if parsed.raw_input_contents:
        raw = [each.data for each in found.inputs if each.region is None]
        assert raw == list(parsed.raw_input_contents)
    # An entry of a map that has unknown fields is itself unknown to protobuf's Python, but not to its C++ and Java. As
    # text, since a double may have become NaN.
    entries = {name: repr(value) for name, value in found.parameters.items()}
    assert entries.items() >= {name: repr(value) for name, value in parameters_of(parsed.parameters).items()}.items()


@settings(max_examples=100)
@given(st.lists(typed_tensors(), min_size=1, max_size=3))
def test_typed_contents_are_the_bytes_of_their_datatype(tensors: list[tuple[InferTensor, list[Any]]]) -> None:
    written = message("ModelInferRequest")(model_name="m")
    for tensor, elements in tensors:
        entry = written.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        name = {"BOOL": "bool", "BYTES": "bytes", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64"}
        short = name.get(tensor.datatype, "uint" if tensor.datatype.startswith("U") else "int")
        values = [each.encode() for each in elements] if short == "bytes" else elements
        getattr(entry.contents, f"{short}_contents").extend(values)
    found = grpc_request.decode(written.SerializeToString()).inputs
    for (tensor, _), read in zip(tensors, found):
        if tensor.datatype in ("FP32", "FP64"):  # a NaN is any of several
            kind = "<f4" if tensor.datatype == "FP32" else "<f8"
            np.testing.assert_array_equal(np.frombuffer(read.data, kind), np.frombuffer(tensor.data, kind))  # type: ignore[arg-type]
        else:
            assert read.data == tensor.data
        assert read.copied == read.data.nbytes  # type: ignore[union-attr]


def test_what_the_tests_break_was_whole() -> None:
    assert [grpc_request.decode(frame_of(each)) for each in REQUESTS_TO_BREAK] == [*map(over_grpc, REQUESTS_TO_BREAK)]
    assert [each.name for each in grpc_request.decode(TYPED).inputs] == ["a", "b", "c", "d"]


def test_raw_inputs_are_views_into_the_frame() -> None:
    frame = bytearray(frame_of(simple_request()))
    first, second = grpc_request.decode(frame).inputs
    assert (first.copied, second.copied) == (0, 0)
    assert first.data is not None
    at = bytes(frame).index(bytes(first.data))
    frame[at] = 77
    assert first.data[0] == 77


def test_to_join_the_parts_is_the_only_copy_of_a_tensor() -> None:
    request = simple_request()
    parts = grpc_request.encode(request)
    assert parts[2] is request.inputs[0].data
    assert parts[4] is request.inputs[1].data


def typed(**contents: Any) -> Any:
    request = message("ModelInferRequest")()
    entry = request.inputs.add(name="A", datatype=contents.pop("datatype", "INT32"), shape=[2])
    for name, values in contents.items():
        getattr(entry.contents, name).extend(values)
    return request


@pytest.mark.parametrize(
    ("change", "message_part"),
    [
        ({"int_contents": [1]}, "expected 2 elements in its contents, as its shape says; found 1"),
        ({"int64_contents": [1, 2]}, "expected the contents of INT32 in int_contents, found int64_contents"),
        ({"datatype": "INT8", "int_contents": [1, 300]}, "expected numbers that fit INT8"),
        ({"datatype": "UINT16", "uint_contents": [1, 2**16]}, "expected numbers that fit UINT16"),
        ({"datatype": "FP16", "fp32_contents": [1, 2]}, "FP16 has no typed contents"),
        ({"datatype": "BYTES", "bytes_contents": [b"a"]}, "expected 2 elements"),
        ({"datatype": "FP64", "fp64_contents": [1]}, "expected 2 elements"),
        ({"datatype": "INT33", "int_contents": [1, 2]}, "invalid datatype for input 'A'"),
    ],
)
def test_contents_that_do_not_fit_are_refused(change: dict[str, Any], message_part: str) -> None:
    with pytest.raises(KserveError, match=message_part):
        grpc_request.decode(typed(**change).SerializeToString())


def test_raw_bytes_and_contents_are_not_mixed() -> None:
    request = typed(int_contents=[1, 2])
    request.raw_input_contents.append(b"12345678")
    with pytest.raises(KserveError, match="all inputs in raw_input_contents or all in contents"):
        grpc_request.decode(request.SerializeToString())


def test_the_raw_index_counts_only_inputs_that_are_not_in_shared_memory() -> None:
    first, second = simple_request().inputs
    apart = dataclasses.replace(first, data=None, region=Region("in", 4, 64))
    found = grpc_request.decode(frame_of(simple_request(inputs=(apart, second))))
    assert found.inputs == (apart, second)


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_raw_entries_as_inputs_are_needed(count: int) -> None:
    request = message("ModelInferRequest").FromString(frame_of(simple_request()))
    del request.raw_input_contents[:]
    request.raw_input_contents.extend([b"\0" * 64] * count)
    with pytest.raises(KserveError, match=f"each of the 2 inputs that are not in shared memory, found {count}"):
        grpc_request.decode(request.SerializeToString())


def test_contents_beside_a_region_are_refused() -> None:
    request = typed(int_contents=[1, 2])
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    with pytest.raises(KserveError, match="contents or a shared memory region, found both"):
        grpc_request.decode(request.SerializeToString())


def test_a_message_in_pieces_is_one() -> None:
    piece = lambda n: bytes_field(5, bytes_field(2, varint(n)))  # noqa: E731
    tensor = bytes_field(1, "A") + bytes_field(2, "INT32") + bytes_field(3, varint(2)) + piece(7) + piece(8)
    found = grpc_request.decode(bytes_field(5, tensor)).inputs[0]
    assert np.frombuffer(found.data, np.int32).tolist() == [7, 8]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "part"),
    [
        (Limits(tensors=1), "at most 1 inputs"),
        (Limits(body=10), "at most 10 bytes"),
        (Limits(rank=1), "at most 1 axes"),
        (Limits(parameters=1), "at most 1 parameters of the request"),
    ],
)
def test_more_than_the_limits_allow_is_refused(limits: Limits, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        grpc_request.decode(frame_of(simple_request(parameters={"a": 1, "b": 2})), limits)


def test_elements_that_are_fields_of_their_own_are_bounded_over_all_inputs() -> None:
    request = typed(datatype="BYTES", bytes_contents=[b"a", b"b"])
    request.inputs.append(request.inputs[0])
    frame = request.SerializeToString()
    assert len(grpc_request.decode(frame, Limits(elements=4)).inputs) == 2
    with pytest.raises(KserveError, match="raw_input_contents"):
        grpc_request.decode(frame, Limits(elements=3))


def test_a_negative_extent_and_a_parameter_without_a_value_are_refused() -> None:
    request = message("ModelInferRequest")()
    request.inputs.add(name="A", datatype="INT32", shape=[-1])
    with pytest.raises(KserveError, match="extents of at least 0"):
        grpc_request.decode(request.SerializeToString())
    request = message("ModelInferRequest")()
    request.parameters["x"].SetInParent()
    with pytest.raises(KserveError, match="parameter 'x' of the request: expected a bool"):
        grpc_request.decode(request.SerializeToString())


def test_a_priority_goes_as_an_unsigned_number_and_others_as_they_fit() -> None:
    request = simple_request(parameters={"priority": 3, "timeout": 5, "large": 2**63, "d": 0.5, "s": "x", "b": False})
    found = message("ModelInferRequest").FromString(frame_of(request)).parameters
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in found.items()}
    assert chosen == {
        "priority": "uint64_param",
        "timeout": "int64_param",
        "large": "uint64_param",
        "d": "double_param",
        "s": "string_param",
        "b": "bool_param",
    }


@settings(max_examples=100)
@given(raw_tensors(), st.binary(max_size=30))
def test_fields_that_are_unknown_are_skipped(tensor: InferTensor, payload: bytes) -> None:
    request = InferRequest("m", "", (tensor,))
    unknown = bytes_field(99, payload) + varint(98 << 3) + varint(5) + varint(97 << 3 | 5) + b"1234"
    assert grpc_request.decode(unknown + frame_of(request) + unknown) == request
