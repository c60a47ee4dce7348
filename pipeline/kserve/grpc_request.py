"""ModelInferRequest: a frame of gRPC to a value, and back. Pure.

    1 model_name | 2 model_version | 3 id | 4 parameters | 5 inputs | 6 outputs | 7 raw_input_contents

Fields of other numbers or wire types are skipped, as protobuf does. Refused, where protobuf takes them: groups, and
parameters without a value.
"""

from __future__ import annotations

from pipeline.errors import KserveError
from pipeline.kserve.grpc_tensors import (
    MessageDraft,
    TensorDraft,
    read_parameter,
    view_of,
    write_head,
    write_parameters,
    write_raw,
)
from pipeline.kserve.parameters import output_parameters, take_output
from pipeline.kserve.values import DEFAULT, InferRequest, InferTensor, Limits, Parameter, RequestedOutput
from pipeline.kserve.wireformat import BYTES, Field, bytes_field, fields, text_of

__all__ = ["decode", "encode"]


def decode(frame: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> InferRequest:
    """The request of a frame; its raw inputs are views into it.

    Raises:
        KserveError: it is no such request: not protobuf, beyond the limits, contents beside raw bytes, or not as many
            raw entries as inputs that need one.
    """
    view = view_of(frame)
    draft = MessageDraft(view, "request", "input", limits)
    outputs: list[RequestedOutput] = []
    raw: list[memoryview] = []
    for field in fields(view, 0, view.nbytes):
        if field.wire_type != BYTES:
            continue
        if field.number == 6:
            outputs.append(_output(view, field, limits))
        elif field.number == 7:
            raw.append(view[field.value : field.end])
        else:
            draft.read(field)
        if max(len(draft.tensors), len(outputs), len(raw)) > limits.tensors:
            raise KserveError(f"expected at most {limits.tensors} inputs, outputs and raw_input_contents, found more")
    model, version, request_id = draft.texts.values()
    inputs = _inputs(draft.tensors, raw)
    return InferRequest(model, version, inputs, tuple(outputs), request_id, draft.parameters)


def _inputs(drafts: list[TensorDraft], raw: list[memoryview]) -> tuple[InferTensor, ...]:
    waiting = [draft for draft in drafts if draft.region is None]
    typed = [draft for draft in drafts if draft.contents is not None]
    if misplaced := [draft for draft in typed if draft.region is not None]:
        raise KserveError(f"{misplaced[0].label}: expected contents or a shared memory region, found both")
    if not raw:
        return tuple([draft.tensor(None) for draft in drafts])
    if typed:
        raise KserveError(
            f"expected all inputs in raw_input_contents or all in contents, found {len(raw)} raw entries and contents "
            f"of {typed[0].label}"
        )
    if len(raw) != len(waiting):
        raise KserveError(
            f"expected one of raw_input_contents for each of the {len(waiting)} inputs that are not in shared memory, "
            f"found {len(raw)}"
        )
    entries = iter(raw)
    return tuple([draft.tensor(next(entries) if draft.region is None else None) for draft in drafts])


def _output(view: memoryview, place: Field, limits: Limits) -> RequestedOutput:
    name = ""
    parameters: dict[str, Parameter] = {}
    for field in fields(view, place.value, place.end):
        if field.wire_type == BYTES and field.number == 1:
            name = text_of(view, field, "the name of an output")
        elif field.wire_type == BYTES and field.number == 2:
            read_parameter(view, field, parameters, f"output {name[:200]!r}", limits)
    return take_output(name, parameters)


def encode(request: InferRequest) -> list[bytes | memoryview]:
    """The frame for a server, part by part: to join them is the only copy of the tensors.

    Raises:
        KserveError: an input with neither bytes nor a region.
    """
    outputs = [
        bytes_field(6, bytes_field(1, output.name) + write_parameters(2, output_parameters(output)))
        for output in request.outputs
    ]
    head = b"".join((write_head(request, request.inputs), *outputs))
    return [head, *write_raw(7, request.inputs, for_regions=False)]
