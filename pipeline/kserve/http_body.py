"""An HTTP body: JSON, and behind it the bytes of tensors, in their order. Pure.

    {"inputs":[{"name":"a",...,"parameters":{"binary_data_size":64}},{"name":"b",...}]}  the 64 bytes of a
    ╰───────────── as many bytes as Inference-Header-Content-Length says ─────────────╯

Without the header, all of the body is JSON. 0 says that all of it is the only input's bytes: `http_request.decode_raw`.
What requests and responses have in common is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import datatype, expected_nbytes
from pipeline.kserve.json_data import has_words, loads_with_words, read_data, write_data
from pipeline.kserve.parameters import BINARY_SIZE, check_parameters, region_parameters, take_region, take_whole
from pipeline.kserve.values import InferTensor, Limits, Parameter, Region

__all__ = [
    "HEADER",
    "Body",
    "Extent",
    "TensorDocument",
    "TensorText",
    "header_length",
    "json_parameters",
    "parse",
    "read_tensors",
    "split",
    "write_tensors",
]

HEADER = "Inference-Header-Content-Length"

Extent = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_Document = TypeVar("_Document")


class Body(NamedTuple):
    """What is sent, part by part, without a copy of the tensors."""

    parts: tuple[bytes | memoryview, ...]
    json_length: int | None
    """For the header `HEADER`; None: without it, since all is JSON."""

    @property
    def nbytes(self) -> int:
        """Of all parts."""
        return sum([len(part) for part in self.parts])


class TensorDocument(msgspec.Struct):
    """A tensor in JSON."""

    name: str
    datatype: str
    shape: list[Extent]
    parameters: dict[str, Any] | None = None
    data: Any = msgspec.UNSET


class TensorText(TensorDocument):
    """The same; its data is not parsed before its datatype is known."""

    data: msgspec.Raw = msgspec.Raw()


def header_length(text: str | None, body: int) -> int | None:
    """What the header `HEADER` says; None if it is not there.

    Args:
        body: bytes of the body, after it was decompressed.

    Raises:
        KserveError: no whole number, or more than the body has.
    """
    if text is None:
        return None
    # The length first: Python reads no number of more than 4300 digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise KserveError(f"{HEADER}: expected a whole number, found {text[:100]!r}")
    if int(text) > body:
        raise KserveError(f"{HEADER}: expected at most the {body} bytes of the body, found {text}")
    return int(text)


def json_parameters(parameters: Mapping[str, Parameter], where: str) -> dict[str, Parameter]:
    """Parameters as JSON can have them.

    Raises:
        KserveError: one is NaN or infinite, for which JSON has no number.
    """
    for name, value in parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise KserveError(f"parameter {name!r} of {where}: expected a finite number, which JSON has; found {value}")
    return dict(parameters)


def split(body: bytes | memoryview, length: str | None, limits: Limits) -> tuple[memoryview, memoryview]:
    """The JSON and the bytes behind it.

    Args:
        length: the header `HEADER`.

    Raises:
        KserveError: a length that is no number or too large, or more than `limits` allow.
    """
    view = memoryview(body)
    if view.nbytes > limits.body:
        raise KserveError(f"expected a body of at most {limits.body} bytes, found {view.nbytes}", "TOO_LARGE")
    end = header_length(length, view.nbytes)
    text = view[:end]
    if text.nbytes > limits.json:
        raise KserveError(f"expected at most {limits.json} bytes of JSON, found {text.nbytes}", "TOO_LARGE")
    return text, view[text.nbytes :]


def parse(text: memoryview, strict: type[_Document], loose: type[_Document], what: str) -> _Document:
    """The JSON as a document.

    Args:
        strict: its tensors' data are msgspec.Raw.
        loose: they are lists; for text with NaN or Infinity, which msgspec does not read.
        what: "request" or "response", for the message.

    Raises:
        KserveError: it is not JSON, or not such a document.
    """
    try:
        return msgspec.json.decode(text, type=strict)
    except RecursionError:
        raise KserveError(f"the {what}'s JSON is nested too deeply") from None
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise KserveError(f"the {what}'s JSON: {error}") from None
    except msgspec.DecodeError as error:
        raw = bytes(text)
        if not has_words(raw):
            raise KserveError(f"expected the {what} as JSON: {error}") from None
    try:
        return msgspec.convert(loads_with_words(raw), loose)
    except RecursionError:
        raise KserveError(f"the {what}'s JSON is nested too deeply") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise KserveError(f"the {what}'s JSON: {error}") from None


def read_tensors(
    documents: Sequence[TensorDocument],
    tail: memoryview,
    limits: Limits,
    what: str,
    regions: Mapping[str, Region] = MappingProxyType({}),
) -> tuple[InferTensor, ...]:
    """The tensors of JSON documents and of the bytes behind the JSON.

    Args:
        what: "input" or "output".
        regions: by name, where a tensor is that says nothing of its data.

    Raises:
        KserveError: a tensor with none or several of data, bytes and region; bytes that do not add up; too many.
    """
    if len(documents) > limits.tensors:
        raise KserveError(f"expected at most {limits.tensors} {what}s, found {len(documents)}")
    tensors = []
    at = 0
    for document in documents:
        name = f"{what} {document.name[:200]!r}"
        parameters: dict[str, Parameter] = dict(document.parameters or {})
        check_parameters(parameters, name, limits.parameters)
        if len(document.shape) > limits.rank:
            raise KserveError(f"{name}: expected at most {limits.rank} axes, found {len(document.shape)}")
        kind = datatype(document.datatype, name)
        size = take_whole(parameters, BINARY_SIZE, name)
        region = take_region(parameters, name)
        raw = document.data
        there = raw is not msgspec.UNSET and not (isinstance(raw, msgspec.Raw) and not memoryview(raw).nbytes)
        if not there and size is None and region is None:
            region = regions.get(document.name)
        set_fields = [
            field
            for field, found in (("data", there), (BINARY_SIZE, size is not None), ("shared_memory_region", region))
            if found
        ]
        if len(set_fields) != 1:
            raise KserveError(
                f"{name} must set exactly one of 'data', {BINARY_SIZE!r} in 'parameters' and 'shared_memory_region' in "
                f"'parameters'; found {' and '.join(map(repr, set_fields)) or 'none'}"
            )
        shape = tuple(document.shape)
        data: memoryview | None = None
        copied = 0
        if size is not None:
            if size > tail.nbytes - at:
                raise KserveError(
                    f"unexpected size for {name}: expected {size} bytes behind the JSON and the tensors before it, "
                    f"found {tail.nbytes - at}"
                )
            data = tail[at : at + size]
            at += size
        elif there:
            data = memoryview(read_data(kind, shape, raw, name))
            copied = data.nbytes
        tensors.append(InferTensor(document.name, kind.name, shape, data, region, parameters, copied))
    if at != tail.nbytes:
        raise KserveError(
            f"unexpected additional {what} data: expected {at} bytes behind the JSON, as the {BINARY_SIZE!r} of its "
            f"{what}s add up to; found {tail.nbytes}"
        )
    return tuple(tensors)


def write_tensors(
    tensors: Sequence[InferTensor], binary: Sequence[bool], what: str, *, regions: bool
) -> tuple[list[dict[str, Any]], list[memoryview]]:
    """The JSON documents of tensors, and the bytes that go behind the JSON.

    Args:
        binary: for each tensor, whether it goes as bytes; one in shared memory does not go at all.
        regions: whether such a one says where it is.

    Raises:
        KserveError: a tensor that cannot be JSON, or that has not as many bytes as its shape says.
    """
    documents, tail = [], []
    for tensor, as_bytes in zip(tensors, binary):
        name = f"{what} {tensor.name!r}"
        kind = datatype(tensor.datatype, name)
        parameters = json_parameters(tensor.parameters, name)
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if tensor.region is not None:
            parameters |= region_parameters(tensor.region) if regions else {}
        elif tensor.data is None:
            raise KserveError(f"{name} has neither data nor a region", "INTERNAL")
        else:
            expected = expected_nbytes(kind, tensor.shape)
            if expected not in (None, tensor.data.nbytes):
                raise KserveError(
                    f"{name}: expected {expected} bytes for {math.prod(tensor.shape)} elements of {kind.name}, found "
                    f"{tensor.data.nbytes}",
                    "INTERNAL",
                )
            if as_bytes:
                parameters[BINARY_SIZE] = tensor.data.nbytes
                tail.append(tensor.data)
            else:
                document["data"] = write_data(kind, tensor.shape, tensor.data, name)
        if parameters:
            document["parameters"] = parameters
        documents.append(document)
    return documents, tail
