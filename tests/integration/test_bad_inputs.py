"""Files that cannot be answered: each fails alone, with a message that says why, and all the others are answered."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "configs" / "digits.yaml"
DIGITS = ROOT / "photos" / "digits"


def png_of_zeros(width: int, height: int) -> bytes:
    """A grayscale PNG of one colour: 400 million pixels fit in 400 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze = zlib.compressobj(9)
    row = bytes(width + 1)
    pixels = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_every_bad_file_fails_alone_and_is_named(cli: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    def made(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    made("folder.jpg/inside.txt", b"")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    jpeg = (photos / "rocket.jpg").read_bytes()
    bad = {
        made("truncated.jpg", jpeg[: len(jpeg) // 2]): ("BadInput", ""),
        made("text.jpg", b"this is no picture\n"): ("BadInput", ""),
        made("empty.jpg", b""): ("", "empty"),
        made("bomb.png", png_of_zeros(20_000, 20_000)): ("BadInput", "20000"),
        str(tmp_path / "missing.jpg"): ("InvalidRequest", "No such file"),
        str(tmp_path / "fifo.jpg"): ("InvalidRequest", "expected a file"),
        str(tmp_path / "loop.jpg"): ("InvalidRequest", "cannot be read"),
        made("large.jpg", bytes(2**20 + 1)): ("InvalidRequest", "takes at most 1048576; raise its max in digits.yaml"),
    }
    good = [str(DIGITS / f"{digit}.png") for digit in range(10)]
    files = [*good[:3], *bad, *good[3:]]
    output = tmp_path / "out.jsonl"
    # The largest file within the limits is the bomb: 400 million pixels in 400 kB.
    config = yaml.safe_load(MNIST.read_text())
    config["inputs"][0]["max"]["bytes"] = config["stages"][0]["with"]["max_bytes"] = 2**20
    config["stages"][1]["with"]["model"] = str(ROOT / "models" / "mnist.onnx")
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(config))
    code, out, err = cli("run", tmp_path / "digits.yaml", *files, "--output", output)
    assert (code, err) == (1, "")
    records = {record["input"]: record for record in map(json.loads, output.read_text().splitlines())}
    assert list(records) == files
    for digit, name in enumerate(good):
        assert records[name]["outputs"]["labels"][0] == str(digit)
    for name, (kind, said) in bad.items():
        error = records[name]["error"]
        assert records[name]["status"] == "error"
        assert kind in error["type"], error
        assert said.lower() in error["message"].lower(), error
        assert error["message"]
        assert "Traceback" not in error["message"]
        assert f"{name}  FAILED  {error['type']}: {error['message']}" in out.splitlines()
    assert f"{len(files)} requests, {len(bad)} failed" in out


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_fails_alone(cli: Callable[..., Any], tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((DIGITS / "1.png").read_bytes())
    secret.chmod(0)
    code, out, _ = cli("run", MNIST, secret, DIGITS / "2.png")
    assert code == 1
    assert f"{secret}  FAILED  InvalidRequest: cannot be read: Permission denied" in out


def test_the_folders_in_a_folder_are_not_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "inner.png").mkdir()
    (tmp_path / "one.png").write_bytes((DIGITS / "1.png").read_bytes())
    code, out, _ = cli("run", MNIST, tmp_path)
    assert code == 0
    assert "1 request, 0 failed" in out


def test_a_file_that_is_fed_by_a_glob_and_is_a_folder_fails_alone(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "inner.png").mkdir()
    (tmp_path / "one.png").write_bytes((DIGITS / "1.png").read_bytes())
    code, out, _ = cli("run", MNIST, tmp_path / "*.png")
    assert code == 1
    assert f"{tmp_path}/inner.png  FAILED  InvalidRequest: expected a file, found a folder" in out
    assert "2 requests, 1 failed" in out
