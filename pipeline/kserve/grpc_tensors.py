"""What ModelInferRequest and ModelInferResponse have in common on the wire: parameters, tensors, raw bytes. Pure.

    ModelInferRequest, ModelInferResponse 1 model_name | 2 model_version | 3 id | 4 parameters | 5 inputs, or outputs
    InferInputTensor, InferOutputTensor   1 name | 2 datatype | 3 shape | 4 parameters | 5 contents
    a map's entry                         1 key | 2 value
    InferParameter                        1 bool | 2 int64 | 3 text | 4 double | 5 uint64

The bytes of tensors lie beside them, one entry for each, in their order:

    request    raw_input_contents has none for a tensor in shared memory
    response   raw_output_contents has an empty one for a tensor in shared memory
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import KserveError
from pipeline.kserve.contents import Contents
from pipeline.kserve.datatypes import datatype
from pipeline.kserve.parameters import region_parameters, take_region
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Limits, Parameter, Region
from pipeline.kserve.wireformat import (
    BYTES,
    FIXED64,
    VARINT,
    Field,
    bytes_field,
    few_varints,
    fields,
    signed,
    text_of,
    varint,
)

__all__ = ["MessageDraft", "TensorDraft", "read_parameter", "view_of", "write_head", "write_parameters", "write_raw"]

#: Of both messages.
_TEXTS = {1: "model_name", 2: "model_version", 3: "id"}
_DOUBLE = struct.Struct("<d")
#: Of these the type is uint64, whatever the value is.
_UNSIGNED = ("priority",)


def view_of(frame: bytes | bytearray | memoryview) -> memoryview:
    """The bytes of a frame, one by one."""
    return memoryview(frame).cast("B")


def read_parameter(view: memoryview, entry: Field, into: dict[str, Parameter], where: str, limits: Limits) -> None:
    """Reads one entry of a map of parameters; a later entry of the same key replaces the earlier one.

    Raises:
        KserveError: a parameter without a value, or more of them than `limits` allow.
    """
    key, value = "", None
    for field in fields(view, entry.value, entry.end):
        if field.wire_type == BYTES and field.number == 1:
            key = text_of(view, field, f"the name of a parameter of {where}")
        elif field.wire_type == BYTES and field.number == 2:
            found = _value(view, field, where)
            value = value if found is None else found
    if value is None:
        raise KserveError(
            f"parameter {key[:100]!r} of {where}: expected a bool, an int64, a string, a double or a uint64, found none"
        )
    into[key] = value
    if len(into) > limits.parameters:
        raise KserveError(f"expected at most {limits.parameters} parameters of {where}, found more")


def _value(view: memoryview, parameter: Field, where: str) -> Parameter | None:
    value: Parameter | None = None
    for field in fields(view, parameter.value, parameter.end):
        match field.number, field.wire_type:
            case 1, 0:
                value = field.value != 0
            case 2, 0:
                value = signed(field.value)
            case 3, 2:
                value = text_of(view, field, f"a parameter of {where}")
            case 4, 1:
                (value,) = _DOUBLE.unpack_from(view, field.value)
            case 5, 0:
                value = field.value
    return value


def write_parameters(number: int, parameters: Mapping[str, Parameter]) -> bytes:
    """A map of parameters as field `number` of its message."""
    out = []
    for key, value in parameters.items():
        if isinstance(value, bool):
            payload = varint(1 << 3 | VARINT) + varint(value)
        elif isinstance(value, int):
            field = 5 if value >= 2**63 or key in _UNSIGNED else 2
            payload = varint(field << 3 | VARINT) + varint(value)
        elif isinstance(value, str):
            payload = bytes_field(3, value)
        else:
            payload = varint(4 << 3 | FIXED64) + _DOUBLE.pack(value)
        out.append(bytes_field(number, bytes_field(1, key) + bytes_field(2, payload)))
    return b"".join(out)


class MessageDraft:
    """Fields 1 to 5 of ModelInferRequest and of ModelInferResponse, as they are read: the same in both."""

    def __init__(self, view: memoryview, what: str, tensors: str, limits: Limits) -> None:
        """Nothing is read yet.

        Args:
            what: "request" or "response".
            tensors: what it calls its tensors: "input" or "output".

        Raises:
            KserveError: the frame is beyond the limits (TOO_LARGE).
        """
        if view.nbytes > limits.body:
            raise KserveError(f"expected a {what} of at most {limits.body} bytes, found {view.nbytes}", "TOO_LARGE")
        self._view, self._what, self._tensors, self._limits = view, what, tensors, limits
        self._alone = 0
        self.texts = dict.fromkeys(_TEXTS, "")
        """model_name, model_version and id, by their numbers."""
        self.parameters: dict[str, Parameter] = {}
        self.tensors: list[TensorDraft] = []

    def read(self, field: Field) -> None:
        """One of these fields, of wire type BYTES.

        Raises:
            KserveError: it is none, or beyond the limits.
        """
        if field.number in self.texts:
            self.texts[field.number] = text_of(self._view, field, _TEXTS[field.number])
        elif field.number == 4:
            read_parameter(self._view, field, self.parameters, f"the {self._what}", self._limits)
        elif field.number == 5:
            self.tensors.append(TensorDraft(self._view, field, self._tensors, self._limits, self._alone))
            self._alone = self.tensors[-1].alone


class TensorDraft:
    """A tensor whose message was read, and whose raw bytes are not known yet."""

    def __init__(self, view: memoryview, place: Field, what: str, limits: Limits, alone: int) -> None:
        """Reads the message.

        Args:
            what: "input" or "output".
            alone: how many elements of typed contents were fields of their own before.

        Raises:
            KserveError: it is no such message, or beyond the limits.
        """
        name = kserve_datatype = ""
        shape: list[int] = []
        parameters: dict[str, Parameter] = {}
        contents: Contents | None = None
        for field in fields(view, place.value, place.end):
            match field.number, field.wire_type:
                case 1, 2:
                    name = text_of(view, field, f"the name of an {what}")
                case 2, 2:
                    kserve_datatype = text_of(view, field, f"the datatype of an {what}")
                case 3, 2:
                    shape += [signed(extent) for extent in few_varints(view, field, limits.rank)]
                case 3, 0:
                    shape.append(signed(field.value))
                case 4, 2:
                    read_parameter(view, field, parameters, f"{what} {name[:200]!r}", limits)
                case 5, 2:
                    contents = contents or Contents()
                    alone = contents.read(view, field.value, field.end, limits, alone)
            if len(shape) > limits.rank:
                raise KserveError(f"{what} {name[:200]!r}: expected at most {limits.rank} axes, found more")
        self.alone = alone
        self.label = f"{what} {name[:200]!r}"
        self.region: Region | None = take_region(parameters, self.label)
        self.contents = contents if contents is not None and contents.names else None
        if min(shape, default=0) < 0:
            raise KserveError(f"{self.label}: expected a shape of extents of at least 0, found {shape}")
        self._name, self._shape, self._parameters = name, tuple(shape), parameters
        self._kind = datatype(kserve_datatype, self.label)

    def tensor(self, raw: memoryview | None) -> InferTensor:
        """The tensor.

        Args:
            raw: its bytes; None: they are in its contents or in shared memory.

        Raises:
            KserveError: contents that do not fit it.
        """
        copied = 0
        if raw is None and self.region is None:
            raw = memoryview((self.contents or Contents()).packed(self._kind, self._shape, self.label))
            copied = raw.nbytes
        return InferTensor(self._name, self._kind.name, self._shape, raw, self.region, self._parameters, copied)


def write_head(message: InferRequest | InferResponse, tensors: Sequence[InferTensor]) -> bytes:
    """Fields 1 to 5 of either message."""
    texts = (message.model, message.version, message.id)
    return b"".join(
        (
            *[bytes_field(number, text) for number, text in zip(_TEXTS, texts) if text],
            write_parameters(4, message.parameters),
            *[_write_tensor(tensor) for tensor in tensors],
        )
    )


def _write_tensor(tensor: InferTensor) -> bytes:
    """A tensor without its bytes, as field 5."""
    parameters: dict[str, Any] = dict(tensor.parameters)
    if tensor.region is not None:
        parameters |= region_parameters(tensor.region)
    shape = b"".join([varint(extent) for extent in tensor.shape])
    return bytes_field(
        5,
        b"".join(
            (
                bytes_field(1, tensor.name),
                bytes_field(2, tensor.datatype),
                bytes_field(3, shape) if shape else b"",
                write_parameters(4, parameters),
            )
        ),
    )


def write_raw(number: int, tensors: Sequence[InferTensor], for_regions: bool) -> list[bytes | memoryview]:
    """The bytes of tensors as fields `number`, part by part and without a copy.

    Args:
        for_regions: whether there is an empty entry for a tensor in shared memory.

    Raises:
        KserveError: a tensor with neither bytes nor a region.
    """
    parts: list[bytes | memoryview] = []
    tag = varint(number << 3 | BYTES)
    for tensor in tensors:
        if tensor.data is not None and tensor.region is None:
            parts += tag + varint(tensor.data.nbytes), tensor.data
        elif tensor.region is None:
            raise KserveError(f"tensor {tensor.name!r} has neither data nor a region", "INTERNAL")
        elif for_regions:
            parts.append(tag + varint(0))
    return parts
