from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.errors import KserveError
from pipeline.kserve.admission import admit, check_region, elements_in, regions_of
from pipeline.kserve.datatypes import joined
from pipeline.kserve.model import Model
from pipeline.kserve.statuses import status_of
from pipeline.kserve.values import InferRequest, InferTensor, Region, RequestedOutput
from pipeline.wire.interface import Axis, Interface, Tensor
from tests.unit.pipeline.kserve.examples import SIMPLE, simple_request, tensor_of

BATCHED = Model(SIMPLE, max_batch_size=8)
SINGLE = Model(SIMPLE)
INTS = np.zeros((1, 16), np.int32)


def model_with(*inputs: Tensor, **more: Any) -> Model:
    return Model(Interface("m", "1", inputs, (Tensor("o", "float16", ()), Tensor("p", "float32", (Axis("n", 4),))), ()), **more)


def request_of(*inputs: InferTensor) -> InferRequest:
    return InferRequest("m", "", inputs)


def test_a_request_is_rows_in_the_order_of_the_interface() -> None:
    first, second = simple_request(rows=3).inputs
    admitted = admit(simple_request(inputs=(second, first)), BATCHED)
    assert admitted.rows == 3
    assert [each.tensor.name for each in admitted.inputs] == ["INPUT0", "INPUT1"]
    assert [each.sent for each in admitted.inputs] == [first, second]
    assert [each.shape for each in admitted.inputs] == [(16,), (16,)]
    assert admitted.outputs == (RequestedOutput("OUTPUT0"), RequestedOutput("OUTPUT1"))


def test_without_a_batch_axis_it_is_one_row() -> None:
    flat = np.zeros(16, np.int32)
    admitted = admit(simple_request(inputs=(tensor_of("INPUT0", flat), tensor_of("INPUT1", flat))), SINGLE)
    assert (admitted.rows, admitted.inputs[0].shape) == (1, (16,))


def test_outputs_are_those_that_the_request_names_in_its_order() -> None:
    outputs = (RequestedOutput("OUTPUT1", classes=2), RequestedOutput("OUTPUT0"))
    assert admit(simple_request(outputs=outputs), BATCHED).outputs == outputs


# Triton 2.51 answers each of these with 400, and the message begins so.
@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"inputs": simple_request().inputs[:1]}, r"expected 2 inputs but got 1 inputs for model 'simple'. Got input\(s\) \['INPUT0'\], but missing required input\(s\) \['INPUT1'\]"),
        ({"inputs": ()}, r"missing required input\(s\) \['INPUT0', 'INPUT1'\]"),
        ({"inputs": simple_request().inputs * 2}, "input 'INPUT0' already exists in request"),
        ({"inputs": (*simple_request().inputs, tensor_of("X", INTS))}, "unexpected inference input 'X' for model 'simple'"),
        ({"outputs": (RequestedOutput("ZZ"),)}, "unexpected inference output 'ZZ' for model 'simple'"),
        ({"rows": 9}, "inference request batch-size must be <= 8"),
        ({"rows": 0}, "inference request batch-size must be <= 8 and at least 1"),
        ({"inputs": (tensor_of("INPUT0", INTS), tensor_of("INPUT1", np.zeros((2, 16), np.int32)))}, "input 'INPUT1' batch size does not match other inputs for 'simple': expected 1, found 2"),
        ({"inputs": (tensor_of("INPUT0", INTS[:, :8]), tensor_of("INPUT1", INTS[:, :8]))}, r"unexpected shape for input 'INPUT0' for model 'simple'. Expected \[-1, 16\], got \[1, 8\]"),
        ({"inputs": (tensor_of("INPUT0", INTS[0]), tensor_of("INPUT1", INTS[0]))}, "The first axis is the batch"),
        ({"inputs": (tensor_of("INPUT0", INTS.astype(np.float32), "FP32"), tensor_of("INPUT1", INTS))}, "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'"),
        ({"inputs": (InferTensor("INPUT0", "INT32", (1, 16), memoryview(bytes(60))), tensor_of("INPUT1", INTS))}, "input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 64, got 60"),
        ({"inputs": (InferTensor("INPUT0", "INT32", (1, 16), memoryview(bytes(68))), tensor_of("INPUT1", INTS))}, "Expected 64, got 68"),
        ({"inputs": (InferTensor("INPUT0", "INT32", (1, 16), None, Region("r", 0, 60)), tensor_of("INPUT1", INTS))}, "Expected 64, got 60"),
        # HEAD refuses this one; 2.51 took it.
        ({"outputs": (RequestedOutput("OUTPUT0"), RequestedOutput("OUTPUT0"))}, "output 'OUTPUT0' already exists"),
    ],
)
def test_what_does_not_fit_is_refused(changes: Any, part: str) -> None:
    with pytest.raises(KserveError, match=part) as caught:
        admit(simple_request(**changes), BATCHED)
    assert status_of(caught.value)[1:] == (400, 3)


def test_an_answer_in_parts_needs_a_stream() -> None:
    decoupled = dataclasses.replace(BATCHED, decoupled=True)
    assert admit(simple_request(), decoupled, streams=True).rows == 1
    with pytest.raises(KserveError, match="doesn't support models with decoupled transaction policy") as caught:
        admit(simple_request(), decoupled)
    assert status_of(caught.value)[1:] == (501, 12)


def test_a_free_dimension_has_a_maximum_and_one_extent() -> None:
    model = model_with(Tensor("a", "uint8", (Axis("n", 4), Axis("n", 4), Axis("", 3))))
    assert admit(request_of(tensor_of("a", np.zeros((2, 2, 3), np.uint8), "UINT8")), model).inputs[0].shape == (2, 2, 3)
    assert admit(request_of(tensor_of("a", np.zeros((0, 0, 3), np.uint8), "UINT8")), model).inputs[0].shape == (0, 0, 3)
    for shape, part in (((5, 5, 3), "dimension 'n' has at most 4"), ((1, 2, 3), "'n' is both 1 and 2"), ((1, 1, 2), "2 in place of 3")):
        with pytest.raises(KserveError, match=part):
            admit(request_of(tensor_of("a", np.zeros(shape, np.uint8), "UINT8")), model)


def test_a_shape_whose_bytes_no_machine_has_is_refused() -> None:
    model = model_with(Tensor("a", "float32", (Axis("n", 2**62), Axis("m", 2**62))))
    with pytest.raises(KserveError, match="input byte size mismatch"):
        admit(request_of(InferTensor("a", "FP32", (2**62, 2**62), memoryview(b""))), model)


class TestElements:
    """Of bytes, and JSON documents."""

    #: At most three elements and twenty bytes of all, four for each length included.
    NAMES = Tensor("a", "bytes", (Axis("n", 3), Axis("bytes", 20)))
    PAGE = Tensor("a", "json", (Axis("bytes", 5),))

    def sent(self, shape: tuple[int, ...], *elements: bytes) -> InferRequest:
        return request_of(InferTensor("a", "BYTES", shape, memoryview(joined(elements))))

    def test_the_elements_of_all_rows_are_views_in_their_order(self) -> None:
        admitted = admit(self.sent((2, 2), b"a", b"", b"\0", b"d"), model_with(self.NAMES, max_batch_size=4))
        (entry,) = admitted.inputs
        assert (admitted.rows, entry.shape, entry.count) == (2, (2,), 2)
        assert entry.sent.data is not None
        assert list(map(bytes, elements_in(entry, 2, entry.sent.data))) == [b"a", b"", b"\0", b"d"]

    def test_a_row_has_at_most_so_many_bytes(self) -> None:
        model = model_with(self.NAMES, max_batch_size=4)
        assert admit(self.sent((2, 1), b"a" * 16, b"b" * 16), model).rows == 2
        with pytest.raises(KserveError, match=r"expected at most 20 bytes in a row, .* found 21"):
            admit(self.sent((2, 1), b"a", b"b" * 17), model)

    @pytest.mark.parametrize(("shape", "part"), [((4,), "at most 3"), ((1, 1), r"Expected \[-1\], got \[1, 1\]"), ((2,), "expected 2 string elements")])
    def test_shape_and_elements_are_checked(self, shape: tuple[int, ...], part: str) -> None:
        with pytest.raises(KserveError, match=part):
            admit(self.sent(shape, b"a"), model_with(self.NAMES))

    def test_a_json_document_is_one_element(self) -> None:
        assert admit(self.sent((1,), b"{}"), model_with(self.PAGE)).inputs[0].shape == (1,)
        assert admit(self.sent((2, 1), b"{}", b"[]"), model_with(self.PAGE, max_batch_size=2)).rows == 2
        for shape, elements in (((2,), (b"{}", b"{}")), ((0,), ()), ((1,), (b"[1, 2]",))):
            with pytest.raises(KserveError):
                admit(self.sent(shape, *elements), model_with(self.PAGE))

    def test_in_shared_memory_they_are_checked_when_they_have_been_read(self) -> None:
        request = request_of(InferTensor("a", "BYTES", (1,), None, Region("r", 0, 5)))
        (entry,) = admit(request, model_with(self.NAMES)).inputs
        assert list(map(bytes, elements_in(entry, 1, memoryview(b"\1\0\0\0x")))) == [b"x"]
        with pytest.raises(KserveError, match="incomplete string data"):
            elements_in(entry, 1, memoryview(b"\2\0\0\0x"))


@pytest.mark.parametrize(("name", "fits"), [("o", False), ("p", True)])
def test_only_numbers_can_be_told_as_classes(name: str, fits: bool) -> None:
    request = dataclasses.replace(request_of(), outputs=(RequestedOutput(name, classes=1),))
    if fits:
        assert admit(request, model_with()).outputs[0].classes == 1
    else:
        with pytest.raises(KserveError, match="class result not available for output 'o'"):
            admit(request, model_with())


@pytest.mark.parametrize(
    ("region", "http"),
    [
        (Region("in", 0, 128), None),
        (Region("in", 64, 64), None),
        (Region("in", 128, 0), None),
        (Region("in", 124, 64), 400),  # the case of the protocol's
        (Region("in", 0, 129), 400),
        (Region("in", 2**64 - 1, 2), 400),
        (Region("gone", 0, 1), 404),
    ],
)
def test_a_region_must_be_registered_and_large_enough(region: Region, http: int | None) -> None:
    if http is None:
        check_region(region, {"in": 128})
        return
    with pytest.raises(KserveError, match="shared memory region: ") as caught:
        check_region(region, {"in": 128})
    assert status_of(caught.value).http == http


def test_the_regions_of_a_request_are_those_of_inputs_and_outputs() -> None:
    apart = InferTensor("INPUT0", "INT32", (1, 16), None, Region("in", 0, 64))
    request = simple_request(inputs=(apart, tensor_of("INPUT1", INTS)), outputs=(RequestedOutput("OUTPUT0", region=Region("out", 0, 64)), RequestedOutput("OUTPUT1")))
    assert regions_of(request) == [Region("in", 0, 64), Region("out", 0, 64)]
