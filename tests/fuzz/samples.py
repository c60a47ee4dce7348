"""Sound requests, of which the cases are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.kserve.messages import message
from pipeline.kserve.values import InferRequest, Region, RequestedOutput
from tests.fuzz.mutations import Raw
from tests.integration.gateways import simple, tensor

STRINGS = np.array([b"", b"a\0b", "ä€".encode(), b"x" * 40], object)


def binary() -> list[InferRequest]:
    """Requests with their tensors as bytes, or in shared memory."""
    region = Region("fuzz", 0, 64)
    (first, second) = simple().inputs
    outside = [type(each)(each.name, each.datatype, each.shape, None, region) for each in (first, second)]
    return [
        simple(),
        simple(id="an-id", parameters={"priority": 3, "timeout": 60_000_000, "x": 1.5, "y": "s", "z": True}),
        simple(outputs=(RequestedOutput("OUTPUT0", True), RequestedOutput("OUTPUT1", False, 3))),
        simple(inputs=tuple(outside), outputs=(RequestedOutput("OUTPUT0", region=region), RequestedOutput("OUTPUT1"))),
        InferRequest("identity_string", "", (tensor("INPUT0", STRINGS),), binary_output=True),
        InferRequest(
            "repeat_int32", "1",
            (tensor("IN", np.array([1, 2], np.int32)), tensor("DELAY", np.zeros(2, np.uint32)),
             tensor("WAIT", np.zeros(1, np.uint32))),
        ),
    ]  # fmt: skip


def typed() -> bytes:
    """A frame of gRPC with typed contents, packed and not."""
    request = message("ModelInferRequest")(model_name="simple", id="7")
    for name in ("INPUT0", "INPUT1"):
        sent = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        sent.contents.int_contents.extend(range(-8, 8))
        sent.parameters["p"].int64_param = -1
    request.parameters["priority"].uint64_param = 2
    request.parameters["d"].double_param = 0.5
    request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 2
    frame: bytes = request.SerializeToString()
    return frame


def strings() -> bytes:
    """A frame of gRPC with strings as contents."""
    request = message("ModelInferRequest")(model_name="identity_string")
    request.inputs.add(name="INPUT0", datatype="BYTES", shape=[3]).contents.bytes_contents.extend([b"", b"a", b"\xff"])
    frame: bytes = request.SerializeToString()
    return frame


def documents() -> list[tuple[str, Any]]:
    """Names of models, and requests as JSON."""
    numbers = list(range(16))
    return [
        # A word that JSON does not have: such text is read by another parser.
        (
            "identity_string",
            {
                "id": "7",
                "parameters": {"p": Raw(b"NaN")},
                "inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}],
            },
        ),
        (
            "simple",
            {
                "id": "7",
                "parameters": {"binary_data_output": False, "priority": 1, "timeout": 60_000_000, "sequence_id": "s"},
                "inputs": [
                    {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": [numbers]},
                    {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": numbers, "parameters": {"p": 1}},
                ],
                "outputs": [
                    {"name": "OUTPUT0", "parameters": {"classification": 2}},
                    {"name": "OUTPUT1", "parameters": {"binary_data": True}},
                ],
            },
        ),
        (
            "identity_string",
            {"inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": [3], "data": ["", "a", "ä€"]}]},
        ),
        (
            "simple",
            {
                "inputs": [
                    {
                        "name": name, "datatype": "INT32", "shape": [1, 16],
                        "parameters": {
                            "shared_memory_region": "fuzz", "shared_memory_byte_size": 64, "shared_memory_offset": 0
                        },
                    }
                    for name in ("INPUT0", "INPUT1")
                ]
            },
        ),
    ]  # fmt: skip
