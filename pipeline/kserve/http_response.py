"""A response over HTTP: value to body, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

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
from pipeline.kserve.parameters import check_parameters
from pipeline.kserve.values import DEFAULT, InferRequest, InferResponse, Limits, Region

__all__ = ["decode", "encode"]


class _Response(msgspec.Struct):
    # KServe's own servers write null for what they leave out.
    model_name: str
    model_version: str | None = None
    outputs: list[TensorText] = []
    id: str | None = None
    parameters: dict[str, Any] | None = None


class _ResponseWithWords(msgspec.Struct):
    model_name: str
    model_version: str | None = None
    outputs: list[TensorDocument] = []
    id: str | None = None
    parameters: dict[str, Any] | None = None


def encode(response: InferResponse, request: InferRequest) -> Body:
    """The body for the client that sent `request`.

    An output goes as bytes if its `binary_data` says so, and otherwise if the request's `binary_data_output` does.
    One in shared memory has its bytes there, and says nothing of them: Triton's client for C++ takes an output that has
    parameters for one that comes as bytes. (That is what the extension's text says. Triton 2.51 leaves
    `binary_data_output` aside if the request names outputs; tritonclient never sends both.)

    Raises:
        KserveError: an output that cannot be JSON, such as FP16.
    """
    wanted = {output.name: output.binary for output in request.outputs}
    binary = []
    for output in response.outputs:
        said = wanted.get(output.name)
        binary.append(request.binary_output if said is None else said)
    documents, tail = write_tensors(response.outputs, binary, "output", regions=False)
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document |= {"model_name": response.model, "model_version": response.version}
    if response.parameters:
        document["parameters"] = json_parameters(response.parameters, "the response")
    document["outputs"] = documents
    text = msgspec.json.encode(document)
    return Body((text, *tail), len(text) if tail else None)


def decode(
    body: bytes | memoryview,
    length: str | None = None,
    limits: Limits = DEFAULT,
    regions: Mapping[str, Region] = MappingProxyType({}),
) -> InferResponse:
    """The response of a body.

    Args:
        body: decompressed; its tensors are views into it.
        length: the header Inference-Header-Content-Length, if there is one.
        regions: by name, where the outputs are that the request has asked for in shared memory.

    Raises:
        KserveError: it is no such response.
    """
    text, tail = split(body, length, limits)
    document: Any = parse(text, _Response, _ResponseWithWords, "response")
    parameters = document.parameters or {}
    check_parameters(parameters, "the response", limits.parameters)
    outputs = read_tensors(document.outputs, tail, limits, "output", regions)
    return InferResponse(
        document.model_name, document.model_version or "", outputs, document.id or "", parameters
    )
