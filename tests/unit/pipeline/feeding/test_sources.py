"""From files and stdin to requests."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InvalidRequest
from pipeline.feeding.sources import Intake, Source, Sources, open_file
from stages.spec import TensorSpec

X, Y = TensorSpec("x", "float32", (2,)), TensorSpec("y", "int64", ())
BYTES = TensorSpec("image", "uint8", ("bytes",), {"bytes": 10})
DOCUMENT = TensorSpec.json("request", 40)


def all_of(sources: Sources) -> list[Source]:
    found = []
    while not sources.exhausted:
        if (source := sources.take(1.0)) is not None:
            found.append(source)
    return found


def test_only_one_free_run_of_bytes_takes_a_file_as_it_is() -> None:
    assert Intake([BYTES]).bytes_of is BYTES
    for inputs in (
        [BYTES, BYTES],
        [TensorSpec("image", "uint8", (10,))],
        [TensorSpec("image", "int8", ("n",), {"n": 10})],
        [TensorSpec("image", "uint8", ("n", 3), {"n": 10})],
        [DOCUMENT],
    ):
        assert Intake(inputs).bytes_of is None


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.npy")
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "fifo.jsonl")
    for path, said in ((tmp_path / "fifo.npy", "expected a file$"), (tmp_path, "expected a file, found a folder")):
        with pytest.raises(InvalidRequest, match=said):
            Intake([X]).load(Source("x", path=str(path)))
        with pytest.raises(InvalidRequest, match=said):
            open_file(path)
    for name, said in (("fifo.jsonl", "expected a file"), ("folder.jsonl", "found a folder"), ("none.jsonl", "No such")):
        (source,) = Intake([DOCUMENT]).of_file(str(tmp_path / name))
        assert said in source.failure


def test_each_line_of_a_jsonl_file_is_a_request_that_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text('{"a": 1}\n\n  \n[2]\r\n"not closed\n' + json.dumps("x" * 50) + '\n"last"')
    for suffix in (".jsonl", ".ndjson", ".JSONL"):
        named = path.rename(path.with_suffix(suffix))
        found = all_of(Sources(Intake([DOCUMENT]), [str(named)]))
        assert [source.name for source in found] == [f"{named}:{number}" for number in (1, 4, 5, 6, 7)]
        assert [source.data for source in found] == [b'{"a": 1}', b"[2]", b'"not closed', b"", b'"last"']
        assert found[3].failure == "the line has more than 40 bytes"
        path = named


def test_each_line_of_a_text_file_is_the_json_string_of_it(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_bytes('say "ä"\n\n\u2028 \x1f\nlast\r\n'.encode() + b"\xff\n")
    found = all_of(Sources(Intake([DOCUMENT]), [str(path)]))
    assert [json.loads(source.data) for source in found[:4]] == ['say "ä"', "", "\u2028 \x1f", "last"]
    assert found[4].failure == "expected UTF-8, found the byte 0xff"
    # Text is only what one JSON document can be.
    assert not Intake([X]).is_lines("a.txt")
    assert Intake([X]).is_lines("a.jsonl")
    assert not Intake([BYTES]).is_lines("a.jsonl")


def test_a_file_is_read_by_what_it_holds_and_a_json_file_by_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 2], np.float32))
    (tmp_path / "x.dat").write_bytes((tmp_path / "x.npy").read_bytes())
    (tmp_path / "x.json").write_text('{"x": [1, 2]}')
    (tmp_path / "x.JSON").write_text("[1, 2]")
    for name in ("x.npy", "x.dat", "x.json", "x.JSON"):
        assert Intake([X]).load(Source("x", path=str(tmp_path / name)))["x"].tolist() == [1, 2]
    assert Intake([DOCUMENT]).load(Source("x", path=str(tmp_path / "x.json")))["request"].tobytes() == b'{"x": [1, 2]}'


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([X], r"expected a \.npy or \.npz file with x float32\[2\], or JSON with these names \(\.json, \.jsonl\)"),
        ([X, Y], r"expected a \.npz file with x float32\[2\], y int64\[\]"),
        ([DOCUMENT], r"expected a \.json file, a \.jsonl file of .*, or a \.txt file of .*, for request json\[bytes<=40\]"),
    ],
)
@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"\x80\x04K\x01.", b"text"])
def test_a_file_of_another_kind_is_refused_with_what_the_pipeline_takes(
    tmp_path: Path, data: bytes, inputs: list[TensorSpec], said: str
) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(InvalidRequest, match=said) as caught:
        Intake(inputs).load(Source("x", path=str(tmp_path / "photo.jpg")))
    assert "pickle" not in str(caught.value)


PIXELS = TensorSpec("image", "uint8", ("H", "W", 3), {"H": 4, "W": 6})


def picture(path: Path, width: int, height: int, mode: str = "RGB") -> Source:
    Image.new(mode, (width, height), "white").save(path)
    return Source("x", path=str(path))


def test_a_picture_is_decoded_for_an_input_of_pixels(tmp_path: Path) -> None:
    for name, mode in (("x.png", "RGB"), ("x.jpg", "RGB"), ("grey.png", "L"), ("clear.webp", "RGBA")):
        pixels = Intake([PIXELS]).load(picture(tmp_path / name, 5, 3, mode))["image"]
        assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 5, 3))
        assert (pixels == 255).all()


def test_arrays_still_go_into_an_input_of_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 2, 3), 7, np.uint8))
    assert Intake([PIXELS]).load(Source("x", path=str(tmp_path / "x.npy")))["image"].tolist() == [[[7] * 3] * 2]
    assert Intake([PIXELS]).load(Source("x", data=b"[[[1, 2, 3]]]"))["image"].tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("inputs", [[PIXELS, X], [TensorSpec("image", "uint8", ("H", "W", 4), PIXELS.max)], [X]])
def test_a_picture_for_any_other_input_is_refused(tmp_path: Path, inputs: list[TensorSpec]) -> None:
    with pytest.raises(InvalidRequest, match="this is neither"):
        Intake(inputs).load(picture(tmp_path / "x.png", 2, 2))


def test_a_picture_that_does_not_fit_its_input_is_refused(tmp_path: Path) -> None:
    intake = Intake([PIXELS])
    with pytest.raises(InvalidRequest, match=r"input 'image': .*8"):
        intake.load(picture(tmp_path / "x.png", 8, 3))
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    with pytest.raises(InvalidRequest, match="input 'image': "):
        intake.load(Source("x", path=str(tmp_path / "x.jpg")))
    (tmp_path / "text").write_text("text")
    with pytest.raises(InvalidRequest, match="input 'image': not an image of a known format"):
        intake.load(Source("x", path=str(tmp_path / "text")))


def test_a_file_that_is_far_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidRequest, match=r"has 1099511627776 bytes, more than a picture"):
        Intake([PIXELS]).load(Source("x", path=str(tmp_path / "x.png")))


def test_a_json_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidRequest, match="the file has 1099511627776 bytes"):
        Intake([DOCUMENT]).load(Source("x", path=str(tmp_path / "x.json")))


def from_stdin(data: bytes, intake: Intake) -> list[Source]:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    try:
        return all_of(Sources(intake, ["-"], stdin=read))
    finally:
        os.close(read)


def test_stdin_is_one_file_of_bytes_or_lines_of_json_or_of_text() -> None:
    assert from_stdin(b"a\nb", Intake([BYTES])) == [Source("-", data=b"a\nb")]
    assert from_stdin(b"", Intake([BYTES])) == [Source("-", data=b"")]
    assert from_stdin(bytes(11), Intake([BYTES])) == [Source("-", failure="expected at most 10 bytes on stdin, found more")]
    assert from_stdin(b"[1]\n\n[2]\n", Intake([DOCUMENT])) == [Source("-:1", data=b"[1]"), Source("-:3", data=b"[2]")]
    assert from_stdin(b"a b\n", Intake([DOCUMENT], text=True)) == [Source("-:1", data=b'"a b"')]
    (source,) = from_stdin(b'{"x": [1, 2]}\n', Intake([X]))
    assert Intake([X]).load(source)["x"].tolist() == [1, 2]
    assert Intake([BYTES]).load(Source("-", data=b"ab"))["image"].tobytes() == b"ab"


def test_while_nothing_comes_by_stdin_there_is_nothing_and_no_end() -> None:
    read, write = os.pipe()
    sources = Sources(Intake([DOCUMENT]), ["-"], stdin=read)
    assert (sources.take(), sources.take(0.01), sources.exhausted) == (None, None, False)
    os.write(write, b"1\n")
    assert sources.take(5.0) == Source("-:1", data=b"1")
    os.close(write)
    assert (sources.take(5.0), sources.exhausted, sources.taken) == (None, True, 1)
    time.sleep(0.01)
    os.close(read)


def test_at_most_so_many_are_taken() -> None:
    sources = Sources(Intake([BYTES]), ["a", "b", "c"], limit=2)
    assert sources.total == 2
    assert [source.name for source in all_of(sources)] == ["a", "b"]
    assert (sources.taken, sources.exhausted) == (2, True)
    assert Sources(Intake([BYTES]), ["a"], limit=2).total == 1


def test_what_an_earlier_run_has_answered_is_left_out_as_often_as_that() -> None:
    files = ["a", "b", "a", "c", os.fsdecode(b"\xe9")]
    sources = Sources(Intake([BYTES]), files, done=Counter({"a": 1, "c": 1, "\\xe9": 1, "gone": 4}))
    assert sources.total == 2
    assert [source.name for source in all_of(sources)] == ["b", "a"]
    assert (sources.taken, sources.skipped, sources.total) == (2, 3, 2)
    limited = Sources(Intake([BYTES]), files, done=Counter({"a": 1}), limit=2)
    assert limited.total == 2
    assert [source.name for source in all_of(limited)] == ["b", "a"]


def test_how_many_there_are_is_known_where_each_file_is_one() -> None:
    assert Sources(Intake([DOCUMENT]), ["a.json", "b.json"]).total == 2
    assert Sources(Intake([DOCUMENT]), ["a.json", "b.jsonl"]).total is None
    assert Sources(Intake([BYTES]), ["a.jsonl", "-"]).total is None
    assert Sources(Intake([BYTES]), ["a.jsonl"]).total == 1
