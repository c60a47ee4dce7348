from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve import grpc_response
from pipeline.kserve.messages import message
from pipeline.kserve.values import InferResponse, InferTensor, Limits, Region
from tests.unit.pipeline.kserve.examples import RESPONSES, RESPONSES_TO_BREAK, mutations, tensor_of

OUTPUT = tensor_of("OUTPUT0", np.arange(4, dtype=np.int32))
RESPONSE = InferResponse("simple", "1", (OUTPUT,), "abc", {"triton_final_response": True})


def frame_of(response: InferResponse) -> bytes:
    return b"".join(grpc_response.encode(response))


@settings(max_examples=100)
@given(RESPONSES)
def test_a_response_is_the_same_after_a_round_trip_and_to_protobufs_own_classes(response: InferResponse) -> None:
    frame = frame_of(response)
    assert grpc_response.decode(frame) == response
    parsed = message("ModelInferResponse").FromString(frame)
    assert [bytes(output.data or b"") for output in response.outputs] == list(parsed.raw_output_contents)
    assert [output.name for output in response.outputs] == [output.name for output in parsed.outputs]
    assert grpc_response.decode(parsed.SerializeToString()) == response


@settings(max_examples=150)
@given(st.data())
def test_a_broken_frame_is_refused_or_read_as_protobuf_reads_it(data: st.DataObject) -> None:
    frame = data.draw(st.sampled_from([*map(frame_of, RESPONSES_TO_BREAK)]).flatmap(mutations))
    try:
        found = grpc_response.decode(frame)
    except KserveError:
        return
    parsed = message("ModelInferResponse").FromString(frame)
    assert (found.model, found.version, found.id) == (parsed.model_name, parsed.model_version, parsed.id)
    assert [output.shape for output in found.outputs] == [tuple(output.shape) for output in parsed.outputs]


@settings(max_examples=200)
@given(RESPONSES, st.text(max_size=9))
def test_a_response_of_a_stream_has_its_error_beside_it(response: InferResponse, error: str) -> None:
    frame = b"".join(grpc_response.encode_stream(response, error))
    assert grpc_response.decode_stream(frame) == (response, error)
    parsed = message("ModelStreamInferResponse").FromString(frame)
    assert parsed.error_message == error
    assert parsed.infer_response.SerializeToString() == message("ModelInferResponse").FromString(frame_of(response)).SerializeToString()


@settings(max_examples=200)
@given(st.data())
def test_a_broken_frame_of_a_stream_is_refused_or_read(data: st.DataObject) -> None:
    frames = [b"".join(grpc_response.encode_stream(response, "e")) for response in RESPONSES_TO_BREAK]
    frame = data.draw(st.sampled_from(frames).flatmap(mutations))
    try:
        _, error = grpc_response.decode_stream(frame)
    except KserveError:
        return
    assert message("ModelStreamInferResponse").FromString(frame).error_message == error


def test_an_output_in_shared_memory_has_an_empty_entry_since_clients_count_positions() -> None:
    apart = InferTensor("OUTPUT1", "INT32", (4,), None, Region("out", 0, 16))
    frame = frame_of(dataclasses.replace(RESPONSE, outputs=(apart, OUTPUT)))
    assert list(message("ModelInferResponse").FromString(frame).raw_output_contents) == [b"", bytes(OUTPUT.data or b"")]
    assert grpc_response.decode(frame).outputs == (apart, OUTPUT)


def test_what_the_tests_break_was_whole() -> None:
    assert [grpc_response.decode(frame_of(each)) for each in RESPONSES_TO_BREAK] == [*RESPONSES_TO_BREAK]


def test_outputs_are_views_into_the_frame_and_parts_are_not_copied() -> None:
    assert grpc_response.encode(RESPONSE)[2] is OUTPUT.data
    assert grpc_response.decode(frame_of(RESPONSE)).outputs[0].copied == 0


def test_the_typed_contents_of_other_servers_are_read() -> None:
    response = message("ModelInferResponse")(model_name="m")
    response.outputs.add(name="O", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    (output,) = grpc_response.decode(response.SerializeToString()).outputs
    assert np.frombuffer(output.data, np.float32).tolist() == [1, 2]  # type: ignore[arg-type]
    assert output.copied == 8
    response.raw_output_contents.append(b"12345678")
    with pytest.raises(KserveError, match="contents or raw_output_contents, found both"):
        grpc_response.decode(response.SerializeToString())


def test_as_many_raw_entries_as_outputs_are_needed() -> None:
    response = message("ModelInferResponse").FromString(frame_of(RESPONSE))
    response.raw_output_contents.append(b"")
    with pytest.raises(KserveError, match="each of 1 outputs, found 2"):
        grpc_response.decode(response.SerializeToString())


def test_bytes_of_an_output_in_shared_memory_are_refused() -> None:
    apart = InferTensor("OUTPUT1", "INT32", (4,), None, Region("out", 0, 16))
    response = message("ModelInferResponse").FromString(frame_of(dataclasses.replace(RESPONSE, outputs=(apart,))))
    response.raw_output_contents[0] = b"1234"
    with pytest.raises(KserveError, match="expected an empty raw_output_contents, found 4 bytes"):
        grpc_response.decode(response.SerializeToString())


def test_an_output_without_bytes_and_region_cannot_be_sent() -> None:
    with pytest.raises(KserveError, match="neither data nor a region") as caught:
        grpc_response.encode(dataclasses.replace(RESPONSE, outputs=(InferTensor("O", "INT32", (1,)),)))
    assert caught.value.code == "INTERNAL"


@pytest.mark.parametrize(("limits", "part"), [(Limits(tensors=0), "at most 0 outputs"), (Limits(body=5), "at most 5 bytes")])
def test_more_than_the_limits_allow_is_refused(limits: Limits, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        grpc_response.decode(frame_of(RESPONSE), limits)
