"""Which files make a model; the .onnx files are written here field by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.engines.onnx_file import external_files
from stages.errors import ModelError


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def tensor(location: str) -> bytes:
    entries = field(13, field(1, b"offset") + field(2, b"4096")) + field(
        13, field(1, b"location") + field(2, location.encode())
    )
    return field(1, 3) + field(2, 1) + field(8, b"weights") + entries + field(14, 1)


def written(tmp_path: Path, content: bytes) -> list[str]:
    path = tmp_path / "model.onnx"
    # Numbers of every width before it, as files have them: a version, an opset, and those that no field of ours has.
    path.write_bytes(field(1, 8) + field(2, b"pytorch") + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4) + content)
    return [str(file.relative_to(tmp_path)) for file in external_files(path)]


def test_a_model_of_one_file_has_no_others(tmp_path: Path) -> None:
    own = field(1, 3) + field(8, b"weights") + field(9, b"location" * 1000)
    assert written(tmp_path, field(7, field(5, own))) == []


def test_each_file_is_named_once_in_order(tmp_path: Path) -> None:
    graph = b"".join(field(5, tensor(name)) for name in ("b.data", "a.data", "b.data", "in/c.data"))
    assert written(tmp_path, field(7, graph)) == ["a.data", "b.data", "in/c.data"]


@pytest.mark.parametrize(
    "lead",
    [
        lambda content: field(7, field(5, content)),
        lambda content: field(7, field(15, field(1, content))),
        lambda content: field(7, field(15, field(2, content))),
        lambda content: field(7, field(1, field(4, b"Constant") + field(5, field(1, b"value") + field(5, content)))),
        lambda content: field(7, field(1, field(5, field(10, content)))),
        lambda content: field(7, field(1, field(5, field(22, field(1, content))))),
        lambda content: field(7, field(1, field(5, field(6, field(5, content))))),
        lambda content: field(7, field(1, field(5, field(11, field(1, field(5, field(5, content))))))),
        lambda content: field(25, field(7, field(5, field(5, content)))),
        lambda content: field(25, field(11, field(5, content))),
        lambda content: field(20, field(1, field(5, content))),
    ],
    ids=["initializer", "sparse", "indices", "constant", "tensors", "sparse constant", "if", "loop", "function",
         "default", "training"],
)  # fmt: skip
def test_weights_are_found_wherever_a_tensor_may_be(tmp_path: Path, lead: object) -> None:
    assert written(tmp_path, lead(tensor("model.onnx.data"))) == ["model.onnx.data"]  # type: ignore[operator]


@pytest.mark.parametrize(
    "content", [b"a model", b"", field(7, b"x")[:-1], b"\xff" * 12, b"\x3b"], ids=["text", "empty", "cut", "long", "group"]
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: expected an \.onnx file"):
        external_files(path)
