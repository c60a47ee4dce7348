"""Requests and responses of KServe v2 as values, the same over HTTP and gRPC.

A tensor's bytes are in `data`, dense and little endian, as a view into the body or frame that they came in, if they
came as bytes. What came as JSON or as typed contents has been converted, and `copied` counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "DEFAULT",
    "InferRequest",
    "InferResponse",
    "InferTensor",
    "Limits",
    "Parameter",
    "Region",
    "RequestedOutput",
]

Parameter = bool | int | float | str
"""The value of a parameter. Integers are those of int64 or uint64."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader takes. More is a `KserveError`, before memory is spent on it."""

    body: int = 64 << 20
    """Bytes of a body, after it was decompressed."""
    json: int = 64 << 20
    """Bytes of the JSON in it. While numbers are read from it, they take up to 16 times as much."""
    tensors: int = 1024
    """Inputs, outputs, and requested outputs, each."""
    parameters: int = 1024
    """Of a request, of a tensor and of an output, each."""
    rank: int = 32
    """Axes of a tensor."""
    elements: int = 1 << 20
    """Elements of typed contents that are fields of their own, of a whole request; packed ones do not count."""


DEFAULT = Limits()
"""Those of Triton, where it has any."""


class Region(NamedTuple):
    """A part of registered shared memory."""

    name: str
    offset: int
    """Bytes from the start of the registered region."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class InferTensor:
    """An input of a request, or an output of a response."""

    name: str
    datatype: str
    """KServe's name, such as "FP32"; always one that `datatypes.DATATYPES` has."""
    shape: tuple[int, ...]
    data: memoryview | None = None
    """Bytes, one-dimensional. Exactly one of data and region is there."""
    region: Region | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """Those that are no field of this class."""
    copied: int = 0
    """Bytes that reading has converted; 0: `data` is a view."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a request asks for."""

    name: str
    binary: bool | None = None
    """HTTP: whether as bytes; None: as the request says for all of them."""
    classes: int = 0
    """So many of the largest values, as text; 0: the tensor itself."""
    region: Region | None = None
    """Where its bytes shall be written."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """Those that are no field of this class."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request for inference."""

    model: str
    version: str
    """Empty: the server chooses."""
    inputs: tuple[InferTensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    """Empty: all of them."""
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """`timeout`, `priority` and the like included (see `parameters`)."""
    binary_output: bool = False
    """HTTP: whether outputs that do not say so themselves come as bytes."""


@dataclass(frozen=True, slots=True)
class InferResponse:
    """The answer to a request; over a stream one of several."""

    model: str
    version: str
    outputs: tuple[InferTensor, ...]
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all outputs that are not in shared memory."""
        return sum([output.data.nbytes for output in self.outputs if output.data is not None])
