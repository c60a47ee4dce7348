"""What a model takes and gives by name, and the options of a call."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from pipeline.client.bindings import Bindings, call_of, input_of, many_of, parted_of, request_of
from pipeline.errors import InvalidRequest
from pipeline.wire.interface import Axis, Interface, Tensor
from stages.spec import TensorSpec

IMAGE = Tensor("Input3", "float32", (Axis("", 1), Axis("", 28), Axis("", 28)))
TEXT = Tensor("text", "json", (Axis("bytes", 64),))
SCORES = Tensor("Plus214_Output_0", "float32", (Axis("", 10),))


class Model(Bindings):
    interface = Interface("mnist", "1", (IMAGE, TEXT), (SCORES,), ())  # type: ignore[assignment]


def test_bindings_are_shapes_and_specs_have_dtype_and_maxima() -> None:
    model = Model()
    assert model.input_bindings() == {"Input3": (1, 28, 28), "text": ("bytes",)}
    assert model.output_bindings() == {"Plus214_Output_0": (10,)}
    assert model.input_specs()["text"] == TensorSpec("text", "json", ("bytes",), {"bytes": 64})
    assert model.output_specs() == {"Plus214_Output_0": TensorSpec("Plus214_Output_0", "float32", (10,))}


def test_one_mapping_in_place_of_a_list_of_them_is_told() -> None:
    with pytest.raises(InvalidRequest, match=r"expected a list .*, found a mapping; write \[\{\.\.\.\}\]"):
        many_of({}, {"Input3": 1}, None, 0, None, 0)  # type: ignore[arg-type]


def test_an_input_of_a_loan_that_is_not_there_is_a_key_error_that_names_those_which_are() -> None:
    arrays = {"image": np.zeros(1), "mask": np.zeros(1)}
    assert input_of(arrays, "mask") is arrays["mask"]
    with pytest.raises(KeyError, match="input 'imag': expected one of image, mask"):
        input_of(arrays, "imag")


def test_a_request_has_the_options_of_its_call() -> None:
    specs, arrays = Model().input_specs(), {"x": np.zeros(3)}
    before = time.monotonic_ns()
    request = request_of(specs, arrays, 1500, np.int64(3), "7", 2, in_parts=True)  # type: ignore[arg-type]
    assert 1_500_000_000 <= request.deadline - before < 100_000_000_000
    assert (request.priority, request.name, request.retries, request.in_parts) == (3, "7", 2, True)
    assert request.inputs is arrays
    assert request.specs is specs
    assert request_of(specs, arrays, None, 0, None).deadline == 0
    assert request_of(specs, {}, None, 0, None, shapes={"x": (3,)}).shapes == {"x": (3,)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 0, None, 0), "deadline_ms: expected a number of milliseconds above 0"),
        (("5", 0, None, 0), "a number of milliseconds above 0 and at most 86400000, found '5'"),
        ((None, 0, 5, 0), "name: expected a text, which logs and stages call the request by, or None, found 5"),
        ((None, 0, 0, 0), "name: expected a text, which"),
        ((None, 10, None, 0), "expected a priority 0..9"),
        ((None, 0, None, -1), "retries: expected how often to send it again, 0 or more, found -1"),
        ((None, 0, None, True), "retries: expected how often to send it again, 0 or more, found True"),
        ((None, 0, None, 1.5), "found 1.5"),
    ],
)
def test_an_option_that_is_none_is_refused(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        request_of({}, {}, *options)
    assert message in str(raised.value)


PICTURE = np.zeros((1, 28, 28), np.float32)
SPECS = {"Input3": TensorSpec("Input3", "float32", (1, 28, 28))}


def test_a_call_is_one_request_or_a_batch_of_them() -> None:
    (request,), is_batch = call_of(SPECS, None, {"Input3": PICTURE}, None, 0, "a.png", 1)
    assert (request.name, request.retries, is_batch) == ("a.png", 1, False)
    rows, is_batch = call_of(SPECS, {"Input3": np.stack([PICTURE] * 3)}, {}, None, 0, None, 0)
    assert (len(rows), is_batch) == (3, True)


def test_an_input_that_is_called_name_is_given_as_name_unless_the_mapping_has_it() -> None:
    specs = {"name": TensorSpec("name", "uint8", (2,))}
    letters = np.frombuffer(b"ab", np.uint8)
    (request,), _ = call_of(specs, None, {}, None, 0, letters, 0)
    assert (request.inputs["name"] is letters, request.name) == (True, "")
    (request,), _ = call_of(specs, {"name": letters}, {}, None, 0, "a.png", 0)
    assert request.name == "a.png"


def test_of_many_requests_the_one_that_does_not_fit_is_named() -> None:
    assert len(many_of(SPECS, [{"Input3": PICTURE}] * 2, None, 0, None, 0)) == 2
    with pytest.raises(InvalidRequest, match=r"request 1: expected a mapping of inputs, found ndarray"):
        many_of(SPECS, [{"Input3": PICTURE}, PICTURE], None, 0, None, 0)
    with pytest.raises(InvalidRequest, match=r"request 1: input 'Input3': .*28"):
        many_of(SPECS, [{"Input3": PICTURE}, {"Input3": PICTURE[:, :3]}], None, 0, None, 0)


def test_a_request_of_a_stream_is_read_in_parts_and_is_no_batch() -> None:
    assert parted_of(SPECS, None, {"Input3": PICTURE}, None, 0, None).in_parts
    with pytest.raises(InvalidRequest):
        parted_of(SPECS, None, {"Input3": np.stack([PICTURE] * 3)}, None, 0, None)
