from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from pipeline.errors import KserveError
from pipeline.kserve.grpc_tensors import TensorDraft, read_parameter, write_head, write_parameters, write_raw
from pipeline.kserve.messages import message
from pipeline.kserve.values import InferRequest, InferTensor, Limits, Parameter, Region
from pipeline.kserve.wireformat import bytes_field, fields, varint
from tests.unit.pipeline.kserve.examples import PARAMETERS, raw_tensors


def read(frame: bytes, limits: Limits | None = None) -> dict[str, Parameter]:
    view = memoryview(frame)
    found: dict[str, Parameter] = {}
    for field in fields(view, 0, len(frame)):
        read_parameter(view, field, found, "it", limits or Limits())
    return found


@settings(max_examples=100)
@given(PARAMETERS)
def test_parameters_come_back_with_their_types(parameters: dict[str, Parameter]) -> None:
    found = read(write_parameters(4, parameters))
    assert found == parameters
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in parameters.items()}


def test_the_last_entry_of_a_key_and_the_last_value_of_an_entry_count() -> None:
    assert read(write_parameters(4, {"a": 1}) + write_parameters(4, {"a": "x"})) == {"a": "x"}
    both = bytes_field(2, varint(1 << 3) + varint(1)) + bytes_field(2, bytes_field(3, "last"))
    assert read(bytes_field(4, bytes_field(1, "k") + both)) == {"k": "last"}
    assert read(bytes_field(4, bytes_field(2, bytes_field(3, "v")))) == {"": "v"}
    assert read(bytes_field(4, bytes_field(1, "k") + bytes_field(2, bytes_field(3, "v")) + bytes_field(2, b""))) == {"k": "v"}


def test_parameters_without_a_value_or_beyond_the_limit_are_refused() -> None:
    with pytest.raises(KserveError, match=r"parameter 'k' of it: expected a bool, .* found none"):
        read(bytes_field(4, bytes_field(1, "k")))
    with pytest.raises(KserveError, match="at most 1 parameters of it"):
        read(write_parameters(4, {"a": 1, "b": 2}), Limits(parameters=1))


@settings(max_examples=100)
@given(raw_tensors())
def test_a_tensor_is_to_protobuf_what_it_was(tensor: InferTensor) -> None:
    request: Any = message("ModelInferRequest").FromString(write_head(InferRequest("", "", ()), [tensor]))
    (found,) = request.inputs
    assert (found.name, found.datatype, tuple(found.shape)) == (tensor.name, tensor.datatype, tensor.shape)
    assert set(found.parameters) == set(tensor.parameters)


def test_a_shape_may_be_packed_or_not_and_has_a_limit() -> None:
    def draft(shape: bytes, limits: Limits) -> TensorDraft:
        frame = memoryview(bytes_field(5, bytes_field(2, "INT8") + shape))
        (field,) = fields(frame, 0, len(frame))
        return TensorDraft(frame, field, "input", limits, 0)

    apart = varint(3 << 3) + varint(2) + varint(3 << 3) + varint(3)
    together = bytes_field(3, varint(2) + varint(3))
    for shape in (apart, together):
        assert draft(shape, Limits()).tensor(memoryview(b"123456")).shape == (2, 3)
        with pytest.raises(KserveError, match="at most 1 axes"):
            draft(shape, Limits(rank=1))
    with pytest.raises(KserveError, match="at most 32 axes"):
        draft(bytes_field(3, varint(1) * 1_000_000), Limits())
    with pytest.raises(KserveError, match="expected the end of a number"):
        draft(bytes_field(3, b"\x80"), Limits())


def test_raw_entries_are_there_for_regions_only_in_responses() -> None:
    near = InferTensor("a", "INT8", (2,), memoryview(b"12"))
    apart = InferTensor("b", "INT8", (2,), None, Region("r", 0, 2))
    request = message("ModelInferRequest").FromString(b"".join(write_raw(7, [apart, near], for_regions=False)))
    response = message("ModelInferResponse").FromString(b"".join(write_raw(6, [apart, near], for_regions=True)))
    assert list(request.raw_input_contents) == [b"12"]
    assert list(response.raw_output_contents) == [b"", b"12"]
    with pytest.raises(KserveError, match="tensor 'a' has neither data nor a region"):
        write_raw(7, [InferTensor("a", "INT8", (2,))], for_regions=False)
