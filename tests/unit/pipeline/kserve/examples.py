"""Requests and responses that the tests of the codec share, and what makes others of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pipeline.kserve.datatypes import DATATYPES, Datatype, joined
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Parameter, Region, RequestedOutput
from pipeline.wire.interface import Axis, Interface, Tensor

#: The model `simple` of the protocol cases: two inputs of sixteen INT32, and a batch axis.
SIXTEEN = (Axis("", 16),)
SIMPLE = Interface(
    "simple",
    "1",
    (Tensor("INPUT0", "int32", SIXTEEN), Tensor("INPUT1", "int32", SIXTEEN)),
    (Tensor("OUTPUT0", "int32", SIXTEEN), Tensor("OUTPUT1", "int32", SIXTEEN)),
    ("add",),
)


def tensor_of(name: str, array: Any, datatype: str = "INT32") -> InferTensor:
    """With the bytes of a numpy array."""
    return InferTensor(name, datatype, array.shape, memoryview(array.tobytes()))


def simple_request(rows: int = 1, **changes: Any) -> InferRequest:
    """What a client sends to `simple`."""
    array = np.arange(16 * rows, dtype=np.int32).reshape(rows, 16)
    values: dict[str, Any] = {"inputs": (tensor_of("INPUT0", array), tensor_of("INPUT1", array)), **changes}
    return InferRequest("simple", "", **values)


_TEXT = st.text(max_size=6)
_INTEGERS = st.integers(-(2**63), 2**64 - 1)
_VALUES: st.SearchStrategy[Parameter] = st.one_of(
    st.booleans(), _INTEGERS, _TEXT, st.floats(allow_nan=False, allow_infinity=False)
)
#: The names with a meaning do not begin so.
PARAMETERS = st.dictionaries(_TEXT.map("p".__add__), _VALUES, max_size=3)
REGIONS = st.builds(Region, st.text(min_size=1, max_size=6), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
_SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def raw_tensors(draw: st.DrawFn) -> InferTensor:
    """Any bytes of any datatype."""
    kind = draw(st.sampled_from(list(DATATYPES.values())))
    shape = draw(_SHAPES)
    count = math.prod(shape)
    if kind.itemsize:
        data = draw(st.binary(min_size=count * kind.itemsize, max_size=count * kind.itemsize))
    else:
        data = joined(draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count)))
    return InferTensor(draw(_TEXT), kind.name, shape, memoryview(data), None, draw(PARAMETERS))


@st.composite
def region_tensors(draw: st.DrawFn) -> InferTensor:
    """In shared memory."""
    kind = draw(st.sampled_from(list(DATATYPES)))
    return InferTensor(draw(_TEXT), kind, draw(_SHAPES), None, draw(REGIONS), draw(PARAMETERS))


def elements_for(kind: Datatype) -> st.SearchStrategy[Any]:
    """Elements of a datatype, as Python has them."""
    if kind.name == "BYTES":
        return _TEXT
    if kind.name == "BOOL":
        return st.booleans()
    if kind.name in ("FP32", "FP64"):
        return st.floats(width=32 if kind.name == "FP32" else 64)
    info = np.iinfo(kind.dtype)
    return st.integers(int(info.min), int(info.max))


@st.composite
def typed_tensors(draw: st.DrawFn) -> tuple[InferTensor, list[Any]]:
    """A tensor that JSON and typed contents can hold, and its elements."""
    kind = draw(st.sampled_from([kind for kind in DATATYPES.values() if kind.contents]))
    shape = draw(_SHAPES)
    count = math.prod(shape)
    elements = draw(st.lists(elements_for(kind), min_size=count, max_size=count))
    if kind.name == "BYTES":
        data = joined([element.encode() for element in elements])
    else:
        data = np.array(elements, kind.dtype).tobytes()
    return InferTensor(draw(_TEXT), kind.name, shape, memoryview(data), None, draw(PARAMETERS)), elements


OUTPUTS = st.builds(
    lambda name, binary, classes, region, parameters: RequestedOutput(
        name, binary, 0 if region else classes, region, parameters
    ),
    _TEXT,
    st.none() | st.booleans(),
    st.integers(0, 5),
    st.none() | REGIONS,
    PARAMETERS,
)
_TENSORS = st.lists(raw_tensors() | region_tensors(), max_size=3).map(tuple)
REQUESTS = st.builds(
    InferRequest, _TEXT, _TEXT, _TENSORS, st.lists(OUTPUTS, max_size=2).map(tuple), _TEXT, PARAMETERS, st.booleans()
)
RESPONSES = st.builds(InferResponse, _TEXT, _TEXT, _TENSORS, _TEXT, PARAMETERS)


_EIGHT = memoryview(b"\0\1\2\3\4\5\6\7")
_TENSORS_TO_BREAK = (
    InferTensor("a", "INT32", (1, 2), _EIGHT, None, {"p": 1, "q": "ä", "r": 0.5, "s": True, "t": 2**63}),
    InferTensor("b", "BYTES", (2,), memoryview(joined([b"x", b""]))),
    InferTensor("c", "BF16", (4,), None, Region("r", 4, 8), {}),
    InferTensor("", "FP64", (0, 3), memoryview(b"")),
)
#: Of each feature one: what the tests break is made of these.
REQUESTS_TO_BREAK = (
    InferRequest("m", "1", _TENSORS_TO_BREAK, (RequestedOutput("o", True, 3), RequestedOutput("p")), "id", {"timeout": 5}, True),
    InferRequest("m", "", _TENSORS_TO_BREAK[:1], (RequestedOutput("o", None, 0, Region("r", 0, 4)),)),
)
RESPONSES_TO_BREAK = (
    InferResponse("m", "1", _TENSORS_TO_BREAK, "id", {"triton_final_response": False}),
    InferResponse("m", "", _TENSORS_TO_BREAK[:1]),
)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes with a few faults: others, cut off, said twice, put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 4))
        if kind == 0 and data:
            data[at % len(data)] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = draw(st.binary(max_size=6))
        elif kind == 3:
            data[at:at] = data[at : at + draw(st.integers(0, 20))]
        else:
            del data[at : at + draw(st.integers(1, 8))]
    return bytes(data)
