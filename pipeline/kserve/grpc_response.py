"""ModelInferResponse and ModelStreamInferResponse: a frame of gRPC to a value, and back. Pure.

    ModelInferResponse         1 model_name | 2 model_version | 3 id | 4 parameters | 5 outputs | 6 raw_output_contents
    ModelStreamInferResponse   1 error_message | 2 infer_response

An error within a stream is both: its message, and a response that says of which request and model. The stream goes on.
"""

from __future__ import annotations

from pipeline.errors import KserveError
from pipeline.kserve.grpc_tensors import MessageDraft, TensorDraft, view_of, write_head, write_raw
from pipeline.kserve.values import DEFAULT, InferResponse, InferTensor, Limits
from pipeline.kserve.wireformat import BYTES, bytes_field, fields, text_of, varint

__all__ = ["decode", "decode_stream", "encode", "encode_stream"]


def encode(response: InferResponse) -> list[bytes | memoryview]:
    """The frame for a client, part by part: to join them is the only copy of the tensors.

    Raises:
        KserveError: an output with neither bytes nor a region.
    """
    return [write_head(response, response.outputs), *write_raw(6, response.outputs, for_regions=True)]


def encode_stream(response: InferResponse, error: str = "") -> list[bytes | memoryview]:
    """The frame of one response of a stream; `error` is the message of a request that has failed."""
    parts = encode(response)
    length = sum([len(part) for part in parts])
    start = (bytes_field(1, error) if error else b"") + varint(2 << 3 | BYTES) + varint(length)
    return [start, *parts]


def decode(frame: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> InferResponse:
    """The response of a frame; its raw outputs are views into it.

    Raises:
        KserveError: it is no such response: not protobuf, beyond the limits, or not as many raw entries as outputs.
    """
    view = view_of(frame)
    draft = MessageDraft(view, "response", "output", limits)
    raw: list[memoryview] = []
    for field in fields(view, 0, view.nbytes):
        if field.wire_type != BYTES:
            continue
        if field.number == 6:
            raw.append(view[field.value : field.end])
        else:
            draft.read(field)
        if max(len(draft.tensors), len(raw)) > limits.tensors:
            raise KserveError(f"expected at most {limits.tensors} outputs and raw_output_contents, found more")
    model, version, response_id = draft.texts.values()
    return InferResponse(model, version, _outputs(draft.tensors, raw), response_id, draft.parameters)


def _outputs(drafts: list[TensorDraft], raw: list[memoryview]) -> tuple[InferTensor, ...]:
    if not raw:
        return tuple([draft.tensor(None) for draft in drafts])
    if len(raw) != len(drafts):
        raise KserveError(f"expected one of raw_output_contents for each of {len(drafts)} outputs, found {len(raw)}")
    outputs = []
    for draft, data in zip(drafts, raw):
        if draft.contents is not None:
            raise KserveError(f"{draft.label}: expected contents or raw_output_contents, found both")
        if draft.region is not None and data.nbytes:
            raise KserveError(
                f"{draft.label} lies in shared memory: expected an empty raw_output_contents, found {data.nbytes} bytes"
            )
        outputs.append(draft.tensor(None if draft.region is not None else data))
    return tuple(outputs)


def decode_stream(frame: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> tuple[InferResponse, str]:
    """One response of a stream, and the message of its error; empty: none.

    Raises:
        KserveError: it is no such response.
    """
    view = view_of(frame)
    error = ""
    inner: list[memoryview] = []
    for field in fields(view, 0, view.nbytes):
        if field.wire_type == BYTES and field.number == 1:
            error = text_of(view, field, "error_message")
        elif field.wire_type == BYTES and field.number == 2:
            inner.append(view[field.value : field.end])
    # Pieces of one message, laid end to end, are that message; there is one in all but made-up frames.
    whole = inner[0] if len(inner) == 1 else memoryview(b"".join(inner))
    return decode(whole, limits), error
