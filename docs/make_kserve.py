"""Writes pipeline/kserve/descriptors.py from the .proto files beside it. Needs grpcio-tools, which [dev] has.

python docs/make_kserve.py
"""

from __future__ import annotations

import base64
import tempfile
import textwrap
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

FOLDER = Path(__file__).parents[1] / "pipeline/kserve"
MODULE = FOLDER / "descriptors.py"
PROTOS = ("inference.proto", "health.proto")

TEXT = '''\
"""Descriptors: inference.proto and health.proto, as protoc compiles them. Written by docs/make_kserve.py.

It is data and not generated code: code that one version of protoc generates runs with few versions of protobuf, and it
registers its names for the whole process, where those of tritonclient are the same.
"""

from __future__ import annotations

__all__ = ["DESCRIPTORS"]

DESCRIPTORS = """
{data}
"""
'''


def compiled() -> bytes:
    """The files as a FileDescriptorSet, without comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        if protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", *PROTOS]):
            raise SystemExit("protoc has refused a file; it says above which one")
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for file in files.file:
        # Names of JSON follow from the others. protoc writes them, and nothing here reads them.
        for message in file.message_type:
            _without_json_names(message)
    return bytes(files.SerializeToString(deterministic=True))


def _without_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _without_json_names(nested)


def text() -> str:
    """The module."""
    return TEXT.format(data="\n".join(textwrap.wrap(base64.b64encode(compiled()).decode(), 118)))


if __name__ == "__main__":
    MODULE.write_text(text(), encoding="utf-8")
