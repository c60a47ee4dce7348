from __future__ import annotations

from typing import Any

import pytest

from stages.errors import BadInput
from stages.ocr.lines import JoinLines
from stages.testing import run

BOX = [[0, 0], [90, 0], [90, 20], [0, 20]]
OTHER = [[0, 30], [90, 30], [90, 50], [0, 50]]


def text(text: str, score: float = 0.9) -> dict[str, Any]:
    return {"text": text, "score": score}


def test_each_text_gets_its_box_in_their_order() -> None:
    batch = run(JoinLines(), texts=[[text("one"), text("two", 0.8)]], boxes=[[BOX, OTHER]])
    assert batch.result(0, "lines") == [
        {"text": "one", "score": 0.9, "box": BOX},
        {"text": "two", "score": 0.8, "box": OTHER},
    ]


def test_a_page_without_text_has_no_lines() -> None:
    assert run(JoinLines(), texts=[[]], boxes=[[]]).result(0, "lines") == []


@pytest.mark.parametrize(("found", "kept"), [(text("x", 0.5), True), (text("x", 0.499), False), (text("", 0.9), False)])
def test_what_is_empty_or_unsure_is_left_out_with_its_box(found: dict[str, Any], kept: bool) -> None:
    lines = run(JoinLines(score=0.5), texts=[[found, text("two")]], boxes=[[BOX, OTHER]]).result(0, "lines")
    assert [line["box"] for line in lines] == ([BOX] if kept else []) + [OTHER]


def test_as_many_of_the_longest_as_there_may_be_have_room() -> None:
    page = [[[100_000 + i, 999_999] for i in range(4)]] * 20
    batch = run(JoinLines(max_boxes=20, max_length=30), texts=[[text("\x1f" * 30, 0.9999)] * 20], boxes=[page])
    assert len(batch.result(0, "lines")) == 20


def test_a_text_too_few_fails_the_page_and_gives_no_text_anothers_box() -> None:
    batch = run(JoinLines(), texts=[[text("one")], [text("two")]], boxes=[[BOX, OTHER], [OTHER]])
    with pytest.raises(BadInput, match="expected a text for each of 2 boxes, found 1"):
        batch.result(0, "lines")
    assert batch.result(1, "lines")[0]["box"] == OTHER
