"""YAML as plain values: what is read, what is refused, and the place that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.document import read_document
from pipeline.errors import ConfigError


def read(tmp_path: Path, text: str | bytes) -> dict[str, Any]:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)[0]


def complaint(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = (
        "{a: no, b: on, c: 12:30, d: 2024-01-02, e: 007, f: 0x1F, g: 1e3, h: 1_000, "
        "i: true, j: ~, k: , l: '1', m: .inf, n: -5, o: 0o17, p: 0-3, q: 1.5, r: =}"
    )
    assert read(tmp_path, text) == {
        "a": "no", "b": "on", "c": "12:30", "d": "2024-01-02", "e": 7, "f": 31, "g": 1000.0, "h": "1_000",
        "i": True, "j": None, "k": None, "l": "1", "m": float("inf"), "n": -5, "o": 15, "p": "0-3", "q": 1.5, "r": "=",
    }  # fmt: skip


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = "base: &base {x: 1, y: 2}\nother: &other {x: 5, z: 6}\nsame: *base\nmine: {<<: *base, y: 3}\nboth: {<<: [*base, *other]}\n"
    document = read(tmp_path, text)
    assert document["same"] == {"x": 1, "y": 2}
    assert document["mine"] == {"x": 1, "y": 3}
    assert document["both"] == {"x": 1, "y": 2, "z": 6}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_every_node_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a:\n  - {b: 1,  c: [x, y]}\n")
    _, locations = read_document(path)
    assert locations.key(("a", 0, "c")) == f"{path}:2:13"
    assert locations.value(("a", 0, "c")) == f"{path}:2:16"
    assert locations.value(("a", 0, "c", 1)) == f"{path}:2:20"
    assert locations.value(("a", 0, "missing", "deep")) == f"{path}:2:5"
    assert locations.value(("nothing",)) == f"{path}:1:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml:1:1: the file is empty; expected a mapping with at least `inputs` and `stages`"),
        ("# only a comment\n", "a.yaml:1:1: the file is empty; expected a mapping with at least `inputs` and `stages`"),
        ("- 1\n", "a.yaml:1:1: expected a mapping with at least `inputs` and `stages`, found a list"),
        ("\n hello\n", "a.yaml:2:2: expected a mapping with at least `inputs` and `stages`, found a single value"),
        ("a: 1\nb:\n  c: 2\na: 3\n", "a.yaml:4:1: the key 'a' is given twice; it was first given at a.yaml:1:1"),
        ("a: {b: 1, b: 1}", "a.yaml:1:11: the key 'b' is given twice; it was first given at a.yaml:1:5"),
        ("a:\n\tb: 1\n", "a.yaml:2:1: not YAML: a tab cannot indent YAML; use spaces"),
        ("a: [1, 2\nb: 3\n", "a.yaml:2:2: not YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
        ("a: 1\n b: 2\n", "a.yaml:2:3: not YAML: mapping values are not allowed here"),
        ("a: 'x\n", "a.yaml:2:1: not YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("a: *b\n", "a.yaml:1:4: not YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: not YAML: expected a single document in the stream, but found another document"),
        ("1: a\n", "a.yaml:1:1: expected text as a key; put it in quotes"),
        ("{[a]: 1}\n", "a.yaml:1:2: expected text as a key; put it in quotes"),
        ("a: !!python/object/apply:os.system ['true']\n", "a.yaml:1:4: the tag !!python/object/apply:os.system is not allowed; remove it"),
        ("a: !!binary aGk=\n", "a.yaml:1:4: the tag !!binary is not allowed for 'aGk='; remove it"),
        ("a: !!int x\n", "a.yaml:1:4: the tag !!int is not allowed for 'x'; remove it"),
        ("a: !mine {b: 1}\n", "a.yaml:1:4: the tag !mine is not allowed; remove it"),
        ("a: {<<: 5}\n", "a.yaml:1:9: expected a mapping, or a list of mappings, to merge"),
        (b"a: \xff\n", "a.yaml: expected a YAML file, which is UTF-8 text; found byte 0xff at offset 3"),
        ("a: \x00\n", "a.yaml: not YAML: unacceptable character #x0000: special characters are not allowed in \"<unicode string>\", position 3"),
    ],
)
def test_what_is_not_a_document_is_refused_at_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert complaint(tmp_path, text) == message


def test_a_document_that_expands_without_bounds_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases expand this document to more than 20000 values" in complaint(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 60 + "]" * 60])
def test_a_document_without_a_bottom_is_refused(tmp_path: Path, text: str) -> None:
    assert "nested more than 40 deep, or an alias is inside its own anchor" in complaint(tmp_path, text)


def test_a_document_too_deep_for_the_parser_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, "a: " + "[" * 5000) == "a.yaml: nested too deeply for a pipeline's config"


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    assert complaint(tmp_path, "# " + "x" * (1 << 20)) == "a.yaml: larger than 1048576 bytes; this is not a pipeline's config"


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: there is no such file"):
        read_document(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match=r"gone/nothing\.yaml: there is no such file$"):
        read_document(tmp_path / "gone/nothing.yaml")
    for name in ("resnet.yaml", "other.yaml", "resnt.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=rf"resnt\.yaml: there is no such file \(did you mean {tmp_path}/resnet.yaml\?\)$"):
        read_document(tmp_path / "resnt.yaml")
    with pytest.raises(ConfigError, match="expected a YAML file, found a directory"):
        read_document(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="loop: cannot be read: Too many levels of symbolic links"):
        read_document(tmp_path / "loop")


def test_infinity_and_nan_may_be_written_in_each_way_of_yaml(tmp_path: Path) -> None:
    document = read(tmp_path, "{a: [.inf, .Inf, .INF, -.Inf], b: [.nan, .NaN, .NAN]}")
    assert document["a"] == [float("inf")] * 3 + [-float("inf")]
    assert all(value != value for value in document["b"])


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 400, "0x" + "f" * 5000])
def test_a_number_of_hundreds_of_digits_is_refused_at_its_place(tmp_path: Path, number: str) -> None:
    assert complaint(tmp_path, f"a: {number}") == "a.yaml:1:4: expected a number of at most 300 characters"


@pytest.mark.parametrize("text", ["a: &a {<<: *a}", "a: &a {<<: [*a], b: 1}", "a: &a {<<: {<<: *a}}"])
def test_a_mapping_that_is_merged_into_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert "a mapping cannot be merged into itself" in complaint(tmp_path, text)
