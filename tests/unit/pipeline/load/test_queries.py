"""Which answer is which sample's, and what is told of the requests. `tests/integration/test_queries.py` sends some."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.load.queries import answers_of, told_of


def test_row_n_of_an_answer_is_of_sample_n_and_its_first_output_counts() -> None:
    scores = np.arange(6, dtype=np.float32).reshape(3, 2)
    answers = answers_of({"scores": scores, "other": np.zeros((3, 1))}, 3)
    assert [each.tolist() for each in answers if each is not None] == [[0, 1], [2, 3], [4, 5]]


def test_the_answer_of_one_row_has_no_axis_for_rows() -> None:
    (scores,) = answers_of({"scores": np.array([1, 2], np.int32)}, 1)
    (number,) = answers_of({"number": np.array(7, np.int32)}, 1)
    assert scores is not None
    assert number is not None
    assert (scores.tolist(), number.tobytes()) == ([1, 2], np.int32(7).tobytes())


@pytest.mark.parametrize("rows", [1, 2])
def test_each_of_the_rows_of_numbers_without_a_shape_is_an_answer(rows: int) -> None:
    answers = answers_of({"size": np.array([4, 5], np.int64) if rows == 2 else np.int64(4)}, rows)
    assert [each.tobytes() for each in answers if each is not None] == [np.int64(4 + n).tobytes() for n in range(rows)]


def test_an_answer_has_no_gaps_between_its_bytes() -> None:
    (answer,) = answers_of({"scores": np.arange(6, dtype=np.uint8).reshape(2, 3).T}, 1)
    assert answer is not None
    assert answer.flags.c_contiguous


def test_what_is_no_array_of_numbers_has_no_bytes_to_show() -> None:
    assert answers_of({"text": {"a": 1}}, 1) == [None]
    assert answers_of({"text": np.array([b"a"], object)}, 1) == [None]
    assert answers_of({"text": [{"a": 1}, None]}, 2) == [None, None]
    assert answers_of({}, 2) == [None, None]


@pytest.mark.parametrize(
    ("sent", "most", "says"),
    [
        ({1: 3300}, 1, r"3,300 of one row each, as this pipeline takes them; `ingress\.rows` allows more"),
        ({1: 662}, 8, "662 of one row each, since LoadGen's queries had one sample"),
        ({8: 412, 4: 1}, 8, "413 of up to 8 rows, 3,300 in all"),
        ({5: 1}, 8, "1 of up to 5 rows, 5 in all; up to 8 may go together"),
    ],
)
def test_it_is_told_of_how_many_rows_the_requests_were(sent: dict[int, int], most: int, says: str) -> None:
    assert re.match(says, told_of(sent, most))
