"""A request over HTTP: body to value, and back. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES, datatype, joined
from pipeline.kserve.http_body import (
    Body,
    TensorDocument,
    TensorText,
    json_parameters,
    parse,
    read_tensors,
    split,
    write_tensors,
)
from pipeline.kserve.parameters import BINARY_OUTPUT, check_parameters, output_parameters, take_bool, take_output
from pipeline.kserve.values import DEFAULT, InferRequest, InferTensor, Limits, Parameter, RequestedOutput

__all__ = ["decode", "decode_raw", "encode"]


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[TensorText]
    outputs: list[_Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


class _RequestWithWords(msgspec.Struct):
    inputs: list[TensorDocument]
    outputs: list[_Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


def decode(
    model: str, version: str, body: bytes | memoryview, length: str | None = None, limits: Limits = DEFAULT
) -> InferRequest:
    """The request of a body.

    Args:
        model: of the path, as is `version`.
        body: decompressed; its tensors are views into it.
        length: the header Inference-Header-Content-Length, if there is one and it is not 0 (see `decode_raw`).

    Raises:
        KserveError: it is no such request.
    """
    text, tail = split(body, length, limits)
    document: Any = parse(text, _Request, _RequestWithWords, "request")
    check_parameters(document.parameters, "the request", limits.parameters)
    if len(document.outputs) > limits.tensors:
        raise KserveError(f"expected at most {limits.tensors} outputs, found {len(document.outputs)}")
    outputs = []
    for output in document.outputs:
        check_parameters(output.parameters, f"output {output.name[:200]!r}", limits.parameters)
        outputs.append(take_output(output.name, output.parameters))
    parameters: dict[str, Parameter] = document.parameters
    binary = bool(take_bool(parameters, BINARY_OUTPUT, "the request"))
    inputs = read_tensors(document.inputs, tail, limits, "input")
    return InferRequest(model, version, inputs, tuple(outputs), document.id, parameters, binary)


def decode_raw(
    model: str,
    version: str,
    body: bytes | memoryview,
    name: str,
    kserve_datatype: str,
    shape: tuple[int, ...],
    limits: Limits = DEFAULT,
) -> InferRequest:
    """The request whose body is the only input's bytes: its header Inference-Header-Content-Length is 0.

    Args:
        name: of the model's only input.
        kserve_datatype: of that input, such as "FP32".
        shape: of that input, without a batch axis; -1: the extent follows from the bytes. With a batch axis, it begins
            with 1.

    Raises:
        KserveError: several free extents, BYTES of another shape than [1], bytes that fill no such shape, or too many.
    """
    data = memoryview(body)
    if data.nbytes > limits.body:
        raise KserveError(f"expected a body of at most {limits.body} bytes, found {data.nbytes}", "TOO_LARGE")
    kind = datatype(kserve_datatype, f"input {name!r}")
    free = shape.count(-1)
    copied = 0
    if kind.name == BYTES:
        # Free axes would say how many elements there are; here all of the body is one.
        if math.prod(shape) not in (1, -1):
            raise KserveError(f"for BYTES raw input {name!r}, the model must have input shape [1], found {list(shape)}")
        shape = (1,) * len(shape)
        data = memoryview(joined([data]))
        copied = data.nbytes
    elif free > 1:
        raise KserveError(f"a raw request needs an input of at most one free extent; {name!r} has {list(shape)}")
    elif free:
        row = kind.itemsize * math.prod(extent for extent in shape if extent != -1)
        if not row or data.nbytes % row:
            raise KserveError(
                f"input byte size mismatch for input {name!r}: expected a multiple of {row} bytes, found {data.nbytes}"
            )
        shape = tuple(data.nbytes // row if extent == -1 else extent for extent in shape)
    elif data.nbytes != kind.itemsize * math.prod(shape):
        raise KserveError(
            f"input byte size mismatch for input {name!r}: expected {kind.itemsize * math.prod(shape)}, found "
            f"{data.nbytes}"
        )
    return InferRequest(model, version, (InferTensor(name, kind.name, shape, data, copied=copied),), binary_output=True)


def encode(request: InferRequest, binary: bool = True) -> Body:
    """The body for a server; the path names model and version.

    Args:
        binary: whether inputs go as bytes behind the JSON; servers without that extension need False.

    Raises:
        KserveError: an input that cannot be sent so.
    """
    documents, tail = write_tensors(request.inputs, [binary] * len(request.inputs), "input", regions=True)
    document: dict[str, Any] = {"id": request.id} if request.id else {}
    parameters = json_parameters(request.parameters, "the request")
    if request.binary_output:
        parameters[BINARY_OUTPUT] = True
    if parameters:
        document["parameters"] = parameters
    document["inputs"] = documents
    if request.outputs:
        document["outputs"] = [_output(output) for output in request.outputs]
    text = msgspec.json.encode(document)
    return Body((text, *tail), len(text) if tail else None)


def _output(output: RequestedOutput) -> dict[str, Any]:
    parameters = json_parameters(output_parameters(output), f"output {output.name!r}")
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}
