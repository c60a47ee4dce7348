"""Requests out of files, for a load generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.load.samples import MOST, read_samples
from stages.spec import TensorSpec

FILE = (TensorSpec("image", "uint8", ("bytes",), {"bytes": 100}),)
X = (TensorSpec("x", "float32", (2,)),)


def test_each_file_is_a_request_as_it_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    (tmp_path / "c.txt").write_bytes(b"no")
    stock = read_samples(FILE, [str(tmp_path)], ["*.jpg"], "demo.yaml")
    assert [request["image"].tobytes() for request in stock.requests] == [b"one", b"two"]
    assert stock.of(3)["image"].tobytes() == b"two"
    assert stock.described == f"2 of {tmp_path}"


def test_arrays_and_lines_of_json_are_requests_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2], "float32"))
    (tmp_path / "b.jsonl").write_text('{"x": [3, 4]}\n{"x": [5, 6]}\n')
    stock = read_samples(X, [str(tmp_path / "a.npy"), str(tmp_path / "b.jsonl")], ["*"], "demo.yaml")
    assert [request["x"].tolist() for request in stock.requests] == [[1, 2], [3, 4], [5, 6]]


def test_no_more_are_read_than_are_needed(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"x": [3, 4]}\n' * (MOST + 9))
    assert len(read_samples(X, [str(tmp_path / "b.jsonl")], ["*"], "demo.yaml").requests) == MOST


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jpg", b"x" * 101, "a.jpg: expected at most 100 bytes, found 101"),
        ("missing.jpg", None, "missing.jpg: cannot be read: No such file or directory"),
        ("*.png", None, r"\*.png: this pattern matches no file"),
    ],
)
def test_what_is_no_request_is_refused_before_anything_starts(
    tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        read_samples(FILE, [str(tmp_path / name)], ["*"], "demo.yaml")


def test_stdin_is_no_sample() -> None:
    with pytest.raises(ConfigError, match="stdin can be read once"):
        read_samples(FILE, ["-"], ["*"], "demo.yaml")
