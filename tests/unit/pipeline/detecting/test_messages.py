"""The codec of Frigate's zmq detectors: every message is one of four, or is refused with a reason."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detecting import messages
from pipeline.detecting.messages import Frame, ModelOffer, ModelQuestion, question_of
from pipeline.errors import InvalidRequest


def header(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(("dtype", "itemsize"), [("uint8", 1), ("float32", 4)])
@pytest.mark.parametrize("shape", [[1, 2, 4, 3], [2, 4, 3], [1, 3, 2, 4]])
def test_a_frame_has_the_bytes_that_its_header_says(dtype: str, itemsize: int, shape: list[int]) -> None:
    data = bytes(range(24 * itemsize))
    frame = question_of([header(shape=shape, dtype=dtype, model_type="yolox"), memoryview(data)])
    assert isinstance(frame, Frame)
    assert frame.pixels.shape == tuple(shape[-3:])
    assert frame.pixels.dtype == dtype
    assert frame.pixels.tobytes() == data


def test_a_model_is_asked_for_or_offered() -> None:
    assert question_of([header(model_request=True, model_name="m.onnx")]) == ModelQuestion("m.onnx")
    assert question_of([header(model_data=True, model_name="m.onnx"), b"data"]) == ModelOffer("m.onnx")


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ((), "without any frame"),
        ((b"\xff\xfe",), "expected a header like"),
        ((b"[1, 2]", b""), "expected a header like"),
        ((b"[" * 4000, b""), "expected a header like"),
        ((b" " * 4097, b""), "at most 4096 bytes, found 4097"),
        ((header(shape=[1, 2, 2, 3], dtype="uint8"),), "two frames, a header and a tensor, found 1"),
        ((header(shape=[1, 2, 2, 3], dtype="uint8"), b"", b""), "found 3"),
        ((header(shape=[1, 2, 2, 3], dtype="uint8"), bytes(11)), "expected 12 bytes for uint8 of shape [1, 2, 2, 3], found 11"),
        ((header(shape=[1, 2, 2, 3], dtype="float64"), bytes(96)), "expected a dtype of uint8 or float32, found 'float64'"),
        ((header(shape=[1, 2, 2, 3]), bytes(12)), "found ''"),
        ((header(dtype="uint8"), bytes(12)), "found None"),
        ((header(shape=[2, 2, 2, 3], dtype="uint8"), bytes(24)), "the shape of one picture"),
        ((header(shape=[1, 0, 2, 3], dtype="uint8"), b""), "the shape of one picture"),
        ((header(shape=[1, -1, -2, 3], dtype="uint8"), bytes(6)), "the shape of one picture"),
        ((header(shape=[1, 2**40, 2**40, 3], dtype="uint8"), bytes(6)), "found 6"),
        ((header(shape=[1, 2**70, 1, 3], dtype="uint8"), bytes(6)), "found 6"),
        ((header(shape=["1", 2, 2, 3], dtype="uint8"), bytes(12)), "expected a header like"),
    ],
)
def test_what_is_none_of_the_messages_is_refused_with_the_reason(parts: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        question_of(parts)
    assert why in str(caught.value)


@given(st.lists(st.binary(max_size=40) | st.just(header(shape=[1, 1, 1, 3], dtype="uint8")), max_size=4))
def test_any_message_is_a_question_or_is_refused(parts: list[bytes]) -> None:
    with suppress(InvalidRequest):
        assert isinstance(question_of(parts), (Frame, ModelOffer, ModelQuestion))


def test_a_table_says_what_it_is() -> None:
    found = np.arange(120, dtype=np.float32).reshape(20, 6)
    said, data = messages.table(found)
    assert json.loads(said) == {"shape": [20, 6], "dtype": "float32"}
    assert data == found.tobytes()
    assert len(data) == messages.TABLE_BYTES


def test_no_reason_has_the_length_of_a_table() -> None:
    for length in range(440, 500):
        (data,) = messages.refusal("x" * length)
        assert len(data) != messages.TABLE_BYTES
        assert json.loads(data) == {"error": "x" * length}


def test_a_model_is_there_if_the_pipeline_is_ready_and_none_is_taken() -> None:
    assert json.loads(*messages.loaded(True)) == {"model_available": True, "model_loaded": True}
    assert json.loads(*messages.loaded(False)) == {"model_available": True, "model_loaded": False}
    refused = json.loads(*messages.refused_model("m.onnx"))
    assert (refused["model_saved"], refused["model_loaded"]) == (False, False)
    assert "m.onnx" in refused["error"]
