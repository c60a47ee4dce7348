"""OnnxFile: the files of a model, read from the .onnx file itself, without the package onnx.

    model.onnx          ModelProto: graph, and in it tensors whose bytes lie elsewhere (data_location: EXTERNAL)
    model.onnx.data     those bytes; its place is written in the tensor, relative to the folder of model.onnx

Only the fields that lead to a tensor are read: protobuf gives the length of every field, so all others are skipped.
The numbers of the fields are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from stages.errors import ModelError

__all__ = ["external_files"]

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_EXTERNAL_DATA = 13
"""TensorProto's own field of entries, {key: 1, value: 2}."""

#: message -> field -> the message in it; no other field leads to a tensor.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def external_files(path: Path) -> list[Path]:
    """The files beside a model that contain a part of it, in the order of their names; none for most models.

    Raises:
        ModelError: the file is not an .onnx file, or cannot be read.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            places = sorted(set(_places(view, "model")))
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: expected an .onnx file: {error}") from error
    # The folder is that of the path as it was given, links not resolved, as in onnxruntime and onnx.
    return [path.parent / place for place in places]


def _places(message: memoryview, kind: str) -> Iterator[str]:
    """The files that the tensors in a message name for their bytes."""
    for field, content in _fields(message):
        if kind == "tensor":
            if field == _EXTERNAL_DATA:
                entry = {number: bytes(text) for number, text in _fields(content)}
                if entry.get(1) == b"location":
                    yield entry[2].decode()
        elif (inner := _MESSAGES[kind].get(field)) is not None:
            yield from _places(content, inner)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of bytes; fields of numbers are skipped."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
            if at > len(message):
                raise ValueError("a number ends beyond its message")
        elif wire == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError(f"a field of {length} bytes ends beyond its message")
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the position of its end."""
    value = 0
    for shift in range(0, 64, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
