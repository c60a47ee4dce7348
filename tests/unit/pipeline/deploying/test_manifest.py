"""Documents become YAML that reads back as they were, with comments where they belong."""

from __future__ import annotations

import pytest
import yaml

from pipeline.deploying.manifest import Document, to_yaml

VALUE = {"kind": "Pod", "spec": {"z": "1", "a": [{"name": "x", "size": "2"}, {"name": "y", "size": "3"}]}}


def test_the_order_is_that_of_the_document() -> None:
    assert to_yaml("", [Document(VALUE)]) == (
        "kind: Pod\nspec:\n  z: '1'\n  a:\n  - name: x\n    size: '2'\n  - name: y\n    size: '3'\n"
    )


def test_a_comment_stands_above_its_key_or_its_item() -> None:
    comments = {("spec", "z"): "of z", ("spec", "a", 1): "of an item", ("spec", "a", 0, "size"): "of a size"}
    assert to_yaml("", [Document(VALUE, comments)]) == (
        "kind: Pod\nspec:\n  # of z\n  z: '1'\n  a:\n  - name: x\n    # of a size\n    size: '2'\n"
        "  # of an item\n  - name: y\n    size: '3'\n"
    )


def test_a_long_comment_is_several_lines_and_a_long_value_is_one() -> None:
    text = to_yaml("", [Document({"a": {"b": "word " * 60 + "end"}}, {("a", "b"): "why " * 60})])
    comments = [line for line in text.splitlines() if line.startswith("  # why")]
    assert len(comments) == 3
    assert all(len(line) <= 120 for line in comments)
    assert text.count("\n") == 1 + 3 + 1


def test_comments_change_nothing() -> None:
    comments = {("spec", "a", 0): "1", ("spec", "a", 0, "name"): "2", ("spec",): "3"}
    assert yaml.safe_load(to_yaml("head", [Document(VALUE, comments)])) == VALUE


@pytest.mark.parametrize("path", [("spec", "b"), ("spec", "a", 2), ("kind", "a"), ("spec", "a", "name")])
def test_a_comment_on_what_is_not_there_is_refused(path: tuple[str | int, ...]) -> None:
    with pytest.raises(KeyError):
        to_yaml("", [Document(VALUE, {path: "lost"})])


def test_documents_are_divided_and_the_header_is_above_them() -> None:
    text = to_yaml("one\n\ntwo", [Document({"a": 1}), Document({"a": 2})])
    assert text == "# one\n#\n# two\na: 1\n---\na: 2\n"


def test_a_text_of_several_lines_is_one_that_can_be_read() -> None:
    assert to_yaml("", [Document({"data": {"c.yaml": "# ä\na: 1\n"}})]) == "data:\n  c.yaml: |\n    # ä\n    a: 1\n"


@pytest.mark.parametrize("text", ["yes", "1e3", "0x10", "null", "~", "a: b", "# a", "a\nb", "trailing \nspace", "\ttab\n", "- x", "1:30"])
def test_a_text_stays_one(text: str) -> None:
    assert yaml.safe_load(to_yaml("", [Document({"a": text})])) == {"a": text}


def test_equal_values_are_no_aliases() -> None:
    same = {"x": 1}
    assert to_yaml("", [Document({"a": same, "b": same})]) == "a:\n  x: 1\nb:\n  x: 1\n"
