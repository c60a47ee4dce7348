"""Where `--output` puts the answers."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.feeding.output import (
    FileOutput,
    NoOutput,
    Output,
    OutputBroken,
    open_output,
    refuse_output,
)
from pipeline.feeding.record import Record
from shm.elements import Elements
from shm.handle import numpy_dtype


def answer(output: Output, number: int, name: str, **outputs: Any) -> Record:
    text, lost = output.take(number, name, outputs)
    record = Record(name, outputs=text, lost=lost)
    output.add(record)
    return record


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_without_an_output_no_array_is_looked_at() -> None:
    class Untouchable:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    assert NoOutput().take(1, "a", {"x": Untouchable()}) == (b"", {})


def test_a_file_has_one_line_a_record(tmp_path: Path) -> None:
    output, done = open_output(str(tmp_path / "out.jsonl"))
    assert done == {}
    answer(output, 1, "a", x=np.array([1, np.nan], np.float32), y={"k": [1]}, z=np.int64(2))
    answer(output, 2, "b", x=np.zeros((0, 3)))
    output.close()
    first, second = records(tmp_path / "out.jsonl")
    assert first["outputs"] == {"x": [1.0, None], "y": {"k": [1]}, "z": 2}
    assert first["nulls"] == {"x": {"NaN": 1}}
    assert second["outputs"] == {"x": []}
    assert "nulls" not in second


def test_lines_are_kept_back_until_they_are_many_or_wanted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output, _ = open_output(str(path))
    answer(output, 1, "a", x=1)
    assert path.read_bytes() == b""
    output.flush()
    assert len(records(path)) == 1
    answer(output, 2, "b", x="y" * 100_000)
    assert len(records(path)) == 2
    output.close()


@contextmanager
def room_for(nbytes: int) -> Iterator[None]:
    """No file can be larger: a disk that is full. (Beyond it the kernel also sends a signal, which Python ignores.)"""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_where_there_is_no_room_the_file_ends_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output, _ = open_output(str(path))
    with room_for(5000):
        for number in range(7):
            answer(output, number, "a", x="y" * 1000)
        with pytest.raises(OutputBroken, match=r"out\.jsonl: File too large; the \d lines of this run are whole"):
            output.flush()
        output.close()
    found = path.read_bytes()
    assert found.endswith(b"\n")
    assert 3 <= len(records(path)) <= 5
    assert len(found) > 3000
    # And goes on from there.
    output, done = open_output(str(path), append=True)
    assert done == {"a": found.count(b"\n")}
    answer(output, 1, "b", x=1)
    output.close()
    assert path.read_bytes().startswith(found)
    assert records(path)[-1]["input"] == "b"


def test_a_device_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    output, _ = open_output(str(tmp_path / "full"))
    answer(output, 1, "a", x=1)
    with pytest.raises(OutputBroken, match="No space left on device; the 0 lines of this run are whole"):
        output.flush()
    output.close()


def test_a_reader_that_has_gone_is_no_broken_output() -> None:
    read, write = os.pipe()
    output = FileOutput(write, "-")
    os.close(read)
    answer(output, 1, "a", x=1)
    with pytest.raises(BrokenPipeError):
        output.flush()
    output.close()


def test_a_reader_that_is_slow_is_waited_for() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    output = FileOutput(write, "-")
    text = "y" * 300_000
    pid = os.fork()
    if pid == 0:
        os.close(write)
        with open(read, "rb") as stream:
            os._exit(0 if json.loads(stream.read())["outputs"] == {"x": text} else 1)
    os.close(read)
    answer(output, 1, "a", x=text)
    output.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_appending_runs_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    whole = Record("a").to_json() + b"\n" + Record("b", ("BadInput", "no")).to_json() + b"\n"
    path.write_bytes(whole + b'{"input": "c", "sta')
    output, done = open_output(str(path), append=True)
    assert done == {"a": 1}
    answer(output, 1, "c", x=1)
    output.close()
    assert path.read_bytes().startswith(whole)
    assert [record["input"] for record in records(path)] == ["a", "b", "c"]


def test_overwriting_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(Record("long" * 100).to_json() + b"\n")
    output, done = open_output(str(path))
    answer(output, 1, "c", x=1)
    output.close()
    assert (done, [record["input"] for record in records(path)]) == ({}, ["c"])


# -- folders --------------------------------------------------------------------------------------


def test_a_folder_gets_an_index_and_the_arrays_of_each_request(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    output, _ = open_output(f"{folder}/")
    mask = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer(output, 1, "photos/a b.jpg", mask=mask, file=np.array([1j]), labels=["cat", float("nan")])
    answer(output, 2, "photos/a b.jpg", mask=mask[:0], file=np.array(2), labels=[])
    answer(output, 3, "words.json:3", labels=["dog"])
    output.close()
    first, second, third = records(folder / "index.jsonl")
    assert first["outputs"] == {
        "mask": {"file": "000001-a_b.npz", "dtype": "float32", "shape": [2, 3]},
        "file": {"file": "000001-a_b.npz", "dtype": "complex128", "shape": [1]},
        "labels": ["cat", None],
    }
    assert first["nulls"] == {"labels": {"NaN": 1}}
    with np.load(folder / "000001-a_b.npz") as arrays:
        assert np.array_equal(arrays["mask"], mask)
        assert arrays["file"].tolist() == [1j]
    with np.load(folder / second["outputs"]["mask"]["file"]) as arrays:
        assert (arrays["mask"].shape, arrays["file"].shape) == ((0, 3), ())
    assert third["outputs"] == {"labels": ["dog"]}
    assert sorted(os.listdir(folder)) == ["000001-a_b.npz", "000002-a_b.npz", "index.jsonl"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x.png", "caf\\xe9.bin", "猫.png", "x" * 300, "-", ".", "a\nb"])
def test_whatever_an_input_is_called_its_files_are_in_the_folder(tmp_path: Path, name: str) -> None:
    output, _ = open_output(f"{tmp_path / 'out'}/", pictures=["../p"])
    answer(output, 1, name, **{"x": np.zeros(1), "../p": np.zeros((1, 1), np.uint8)})
    output.close()
    assert len(os.listdir(tmp_path / "out")) == 3
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_an_output_that_is_said_to_be_a_picture_becomes_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    output, _ = open_output(f"{tmp_path}/", pictures=["image"])
    record = answer(output, 1, "a.jpg", image=picture[::-1], other=picture)
    output.close()
    entry = json.loads(record.outputs)["image"]
    assert entry == {"file": "000001-a.image.png", "dtype": "uint8", "shape": list(shape)}
    with Image.open(tmp_path / entry["file"]) as found:
        assert np.array_equal(np.asarray(found).reshape(shape), picture[::-1])
    assert json.loads(record.outputs)["other"]["file"] == "000001-a.npz"


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 7), np.uint8), np.zeros((0, 2), np.uint8)])
def test_what_is_no_picture_leaves_nothing_behind(tmp_path: Path, array: np.ndarray) -> None:
    output, _ = open_output(f"{tmp_path}/", pictures=["image"])
    with pytest.raises(ValueError, match="'image' is not a picture"):
        output.take(1, "a.jpg", {"image": array})
    output.close()
    assert os.listdir(tmp_path) == ["index.jsonl"]


def test_where_there_is_no_room_for_an_array_no_part_of_it_is_left(tmp_path: Path) -> None:
    output, _ = open_output(f"{tmp_path}/")
    with room_for(5000), pytest.raises(OutputBroken, match=r"000001-a\.npz: File too large"):
        output.take(1, "a", {"x": np.zeros(10_000)})
    output.close()
    assert os.listdir(tmp_path) == ["index.jsonl"]


def test_elements_and_bfloat16_are_in_the_file_bit_by_bit(tmp_path: Path) -> None:
    names = np.array([[b"a\0", b"\xff"]], object)
    numbers = np.array([0.1, np.nan], np.float32).astype(numpy_dtype("bfloat16"))
    output, _ = open_output(f"{tmp_path}/")
    record = answer(output, 1, "a", names=names, numbers=numbers, none=np.empty((0, 3), object), zero=np.zeros((0, 2)))
    output.close()
    found = json.loads(record.outputs)
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in found.items()} == {
        "names": ("bytes", [1, 2]), "numbers": ("bfloat16", [2]), "none": ("bytes", [0, 3]), "zero": ("float64", [0, 2]),
    }  # fmt: skip
    with np.load(tmp_path / found["names"]["file"], allow_pickle=False) as arrays:
        assert Elements(arrays["names"], (1, 2)).decode().tolist() == names.tolist()
        assert Elements(arrays["none"], (0, 3)).decode().shape == (0, 3)
        assert arrays["numbers"].view(numbers.dtype).tobytes() == numbers.tobytes()
        assert arrays["zero"].shape == (0, 2)


def test_appending_to_a_folder_keeps_its_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        output, done = open_output(f"{tmp_path}/", append=True)
        answer(output, 1, name, x=np.array([ord(name)]))
        output.close()
    assert done == {"a": 1}
    assert [record["outputs"]["x"]["file"] for record in records(tmp_path / "index.jsonl")] == ["000001-a.npz", "000002-b.npz"]


def test_overwriting_a_folder_removes_what_its_index_names_and_nothing_else(tmp_path: Path) -> None:
    output, _ = open_output(f"{tmp_path}/", pictures=["p"])
    for number in (1, 2):
        answer(output, number, "a", x=np.zeros(1), p=np.zeros((1, 1), np.uint8), y={"file": "000009-mine.npz"})
    output.close()
    for name in ("000007-mine.npz", "photo.png"):
        (tmp_path / name).write_bytes(b"")
    output, _ = open_output(f"{tmp_path}/")
    answer(output, 1, "b", x=np.zeros(1))
    output.close()
    assert sorted(os.listdir(tmp_path)) == ["000007-mine.npz", "000008-b.npz", "index.jsonl", "photo.png"]


# -- what is refused before anything starts ---------------------------------------------------------


def refusal(target: object, *, overwrite: bool = False, append: bool = False) -> str:
    try:
        refuse_output(str(target), overwrite=overwrite, append=append)
    except ConfigError as error:
        return str(error)
    return ""


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path, folder = tmp_path / "out.jsonl", tmp_path / "out"
    assert refusal(path) == refusal(f"{folder}/") == ""
    path.write_bytes(Record("a").to_json() + b"\n")
    folder.mkdir()
    assert refusal(folder) == refusal(f"{folder}/") == ""
    (folder / "index.jsonl").write_bytes(path.read_bytes())
    for target in (path, folder, f"{folder}/"):
        assert "exists; --append goes on behind what it holds" in refusal(target)
        assert "--overwrite replaces it" in refusal(target)
        assert refusal(target, overwrite=True) == refusal(target, append=True) == ""
        assert "contradict" in refusal(target, overwrite=True, append=True)


def test_what_has_nothing_to_lose_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "empty", tmp_path / "fifo", "/dev/null", "/dev/stdout", "-"):
        assert refusal(target) == ""


def test_what_cannot_be_made_or_appended_to_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("name: resnet\n")
    assert "does not exist" in refusal(tmp_path / "no" / "out.jsonl")
    assert "does not exist" in refusal(f"{tmp_path}/no/out/")
    assert "expected a folder, found a file" in refusal(f"{config}/")
    assert "expected records" in refusal(config, append=True)
    assert "stdout" in refusal("-", append=True)
    assert "stdout" in refusal("-", overwrite=True)
