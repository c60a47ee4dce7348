"""The messages of the other calls: classes that protobuf makes of our descriptors. Pure; needs the extra `serve`.

    message("ServerLiveResponse")(live=True).SerializeToString()

They live in a pool of their own. In protobuf's default pool a name can be there once in a process; so an application
that imports tritonclient.grpc, or KServe's package, can use these too. The messages of inference are among them, for
tests; servers and clients use `grpc_request` and `grpc_response`, which copy no tensor.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from pipeline.errors import KserveError
from pipeline.kserve.descriptors import DESCRIPTORS

__all__ = ["HEALTH", "INFERENCE", "Method", "document", "filled", "message", "methods", "parsed"]

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(DESCRIPTORS)).file:
    _POOL.AddSerializedFile(_file.SerializeToString())


class Method(NamedTuple):
    """One call of a service."""

    name: str
    path: str
    """As HTTP/2 has it: /package.Service/Method."""
    request: Any
    """The class of its message."""
    response: Any
    client_streams: bool
    server_streams: bool


@lru_cache(maxsize=256)
def message(name: str) -> Any:
    """The class of a message of package inference, or of another by its full name."""
    full = name if name.startswith("grpc.") else f"inference.{name}"
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(full))


def methods(service: str) -> dict[str, Method]:
    """The calls of a service, `INFERENCE` or `HEALTH`, by name."""
    found = {}
    proto = descriptor_pb2.ServiceDescriptorProto()
    descriptor = _POOL.FindServiceByName(service)
    descriptor.CopyToProto(proto)
    for row in proto.method:
        method = descriptor.methods_by_name[row.name]
        found[row.name] = Method(
            row.name,
            f"/{service}/{row.name}",
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            row.client_streaming,
            row.server_streaming,
        )
    return found


def parsed(name: str, frame: bytes) -> Any:
    """The message of a frame.

    Raises:
        KserveError: it is no such message.
    """
    try:
        return message(name).FromString(frame)
    except (DecodeError, ValueError) as error:
        raise KserveError(f"expected a {name}: {error}") from None


def filled(name: str, values: dict[str, Any]) -> Any:
    """A message of a document, such as those of `documents`; keys are the names of fields."""
    return json_format.ParseDict(values, message(name)())


def document(value: Any) -> dict[str, Any]:
    """The reverse of `filled`, for a client. 64-bit numbers become text, as protobuf's JSON has them."""
    found: dict[str, Any] = json_format.MessageToDict(value, preserving_proto_field_name=True)
    return found
