"""What of a call's arrays is one request, what is a batch, and the answers of a batch as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.client.batches import evenly, joined, of_row, of_rows, requests_of, stacked
from pipeline.errors import BadInput, InvalidRequest, request_error
from pipeline.wire.interface import Axis, Interface, Tensor
from stages.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", (1, 28, 28))
SIZE = TensorSpec("size", "int64", ())
ANY = TensorSpec("any", "json", ("bytes",), {"bytes": 64})
TEXT = TensorSpec("text", "uint8", ("n",), {"n": 16})


def specs(*given: TensorSpec) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in given}


def f32(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_arrays_of_the_specs_dimensions_are_one_request() -> None:
    image = f32(1, 28, 28)
    rows, batch = requests_of(specs(IMAGE, SIZE), {"image": image, "size": np.int64(3)})
    assert (len(rows), batch) == (1, False)
    assert rows[0]["image"] is image


@pytest.mark.parametrize("count", [1, 3])
def test_one_more_dimension_is_a_batch_of_views(count: int) -> None:
    images, sizes = f32(count, 1, 28, 28), np.arange(count)
    rows, batch = requests_of(specs(IMAGE, SIZE), {"size": sizes, "image": images})
    assert (len(rows), batch) == (count, True)
    for number, row in enumerate(rows):
        assert [*row] == ["image", "size"]
        assert np.shares_memory(row["image"], images)
        assert row["image"].tobytes() == images[number].tobytes()
        assert (row["size"].shape, int(row["size"])) == ((), number)


def test_a_json_input_of_a_batch_is_a_list_of_as_many_values() -> None:
    rows, batch = requests_of(specs(IMAGE, ANY), {"image": f32(2, 1, 28, 28), "any": [{"a": 1}, [2, 3]]})
    assert batch
    assert [row["any"].tobytes() for row in rows] == [b'{"a": 1}', b"[2, 3]"]


@pytest.mark.parametrize("value", [[1], [1, 2, 3]])
def test_a_json_value_that_is_a_list_is_one_request_beside_one(value: list[int]) -> None:
    rows, batch = requests_of(specs(IMAGE, ANY), {"image": f32(1, 28, 28), "any": value})
    assert not batch
    assert rows[0]["any"].tobytes().decode() == str(value)


def test_bytes_are_one_request_and_rows_of_bytes_a_batch() -> None:
    rows, batch = requests_of(specs(TEXT), {"text": b"four"})
    assert (rows[0]["text"].tobytes(), batch) == (b"four", False)
    rows, batch = requests_of(specs(TEXT), {"text": np.frombuffer(b"foursome", np.uint8).reshape(2, 4)})
    assert ([row["text"].tobytes() for row in rows], batch) == ([b"four", b"some"], True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"image": f32(28, 28), "size": 1},
            "input 'image': expected shape [1, 28, 28], or [n, 1, 28, 28] for a batch of n requests, found [28, 28]",
        ),
        ({"image": f32(1, 28, 27), "size": 1}, "input 'image': expected 28 along axis 2 of [1, 28, 28], found 27"),
        (
            {"image": f32(4, 1, 28, 27), "size": np.arange(4)},
            "row 0 of 4: input 'image': expected 28 along axis 2 of [1, 28, 28], found 27",
        ),
        (
            {"image": f32(4, 1, 28, 28), "size": 1},
            "input 'size': expected shape [], or [n] for a batch of n requests, found []; 'image' has 4 rows of a "
            "batch, so every input must have them",
        ),
        (
            {"image": f32(4, 1, 28, 28), "size": np.arange(3)},
            "input 'size': expected 4 rows, as 'image' has, found 3: all inputs of a batch have the same number of rows",
        ),
        ({"image": f32(0, 1, 28, 28), "size": np.arange(0)}, "input 'image': a batch of no rows, [0, 1, 28, 28]"),
    ],
)
def test_a_shape_that_is_none_of_both_says_what_was_expected_and_found(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        requests_of(specs(IMAGE, SIZE), given)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("value", "found"), [(7, "int"), ([1], "1 of them"), ([1, 2, 3], "3 of them")]
)
def test_a_json_input_of_a_batch_that_is_none_says_so(value: Any, found: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        requests_of(specs(IMAGE, ANY), {"image": f32(2, 1, 28, 28), "any": value})
    assert str(raised.value) == f"input 'any': expected a list of 2 values, one for each row, found {found}"


def test_a_json_value_that_is_too_large_names_its_row() -> None:
    with pytest.raises(InvalidRequest, match="row 1 of 2: input 'any': expected at most 64"):
        requests_of(specs(IMAGE, ANY), {"image": f32(2, 1, 28, 28), "any": ["short", "long" * 30]})


def test_an_error_of_a_row_is_the_same_error_with_the_row() -> None:
    error = request_error("BadInput", "no face", "in stage.py", "7-1")
    told = of_row(error, 2, 5)
    assert type(told) is BadInput
    assert str(told) == "row 2 of 5: no face"
    assert (told.request, told.traceback, told.__cause__) == ("7-1", "in stage.py", error.__cause__)


SCORES = Tensor("scores", "float32", (Axis("", 3),))
LABEL = Tensor("label", "json", (Axis("bytes", 64),))
BOXES = Tensor("boxes", "int32", (Axis("n", 9), Axis("", 4)))


def test_answers_are_stacked_by_output() -> None:
    interface = Interface("demo", "1", (), (SCORES, LABEL, BOXES), ())
    rows = [
        {"scores": f32(3), "label": None if number else {"a": 1}, "boxes": np.ones((number, 4), np.int32)}
        for number in range(3)
    ]
    values, copied = stacked(interface, rows)
    assert [*values] == ["scores", "label", "boxes"]
    assert values["scores"].shape == (3, 3)
    assert not values["scores"].flags.writeable
    assert values["label"] == [{"a": 1}, None, None]
    assert [boxes.shape for boxes in values["boxes"]] == [(0, 4), (1, 4), (2, 4)]
    assert not np.shares_memory(values["boxes"][2], rows[2]["boxes"])
    assert copied == 3 * 12 + 3 * 16


def test_an_output_that_was_skipped_for_a_row_is_a_list_with_none_and_one_that_all_lack_is_not_there() -> None:
    interface = Interface("demo", "1", (), (SCORES, LABEL, BOXES), ())
    values, copied = stacked(interface, [{"scores": f32(3)}, {"label": 7}])
    assert [*values] == ["scores", "label"]
    assert values["scores"][1] is None
    assert values["scores"][0].tobytes() == f32(3).tobytes()
    assert values["label"] == [None, 7]
    assert copied == 12


NAMES = TensorSpec("names", "bytes", (2,), {"bytes": 64})


def test_elements_of_bytes_are_rows_of_a_batch_as_numbers_are() -> None:
    rows, batch = requests_of(specs(NAMES, SIZE), {"names": [["a", b"b\0"], ["", "ü"]], "size": np.arange(2)})
    assert batch
    assert [row["names"].tolist() for row in rows] == [[b"a", b"b\0"], [b"", b"\xc3\xbc"]]
    rows, batch = requests_of(specs(NAMES), {"names": [b"a", b"b"]})
    assert (len(rows), batch) == (1, False)


def test_elements_of_a_row_that_take_too_many_bytes_name_their_row() -> None:
    with pytest.raises(InvalidRequest, match="row 1 of 2: input 'names': expected at most 64 for 'bytes'"):
        requests_of(specs(NAMES), {"names": [[b"a", b"b"], [b"a" * 60, b"b"]]})


def test_answers_of_elements_are_one_array_if_their_shape_is_fixed() -> None:
    any_number = TensorSpec("some", "bytes", ("n",), {"n": 3, "bytes": 64})
    outputs = (Tensor.of("names", NAMES), Tensor.of("some", any_number))
    answers = [
        {"names": np.array([b"a\0", b"b"], object), "some": np.array([b"x"], object)},
        {"names": np.array([b"", b"c"], object), "some": np.empty(0, object)},
    ]
    values, _ = stacked(Interface("demo", "1", (), outputs, ()), answers)
    assert values["names"].tolist() == [[b"a\0", b"b"], [b"", b"c"]]
    assert [array.tolist() for array in values["some"]] == [[b"x"], []]


@pytest.mark.parametrize(
    ("rows", "most", "sizes"), [(1, 8, [1]), (8, 8, [8]), (9, 8, [5, 4]), (20, 8, [7, 7, 6]), (3, 1, [1, 1, 1])]
)
def test_rows_go_in_as_few_requests_as_can_be_of_about_as_many_each(rows: int, most: int, sizes: list[int]) -> None:
    assert evenly(rows, most) == sizes


def test_if_a_request_may_carry_several_rows_a_batch_is_cut_into_views_that_keep_their_axis() -> None:
    images, sizes = f32(9, 1, 28, 28), np.arange(9)
    pieces, batch = requests_of(specs(IMAGE, SIZE), {"size": sizes, "image": images}, 8)
    assert batch
    assert [piece["size"].tolist() for piece in pieces] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert all(np.shares_memory(piece["image"], images) for piece in pieces)
    single, batch = requests_of(specs(IMAGE, SIZE), {"size": sizes[0], "image": images[0]}, 8)
    assert (len(single), batch, single[0]["image"].shape) == (1, False, (1, 28, 28))
    with pytest.raises(InvalidRequest, match=r"input 'image': in each row, expected "):
        requests_of(specs(IMAGE, SIZE), {"size": sizes, "image": f32(9, 1, 28, 27)}, 8)


@pytest.mark.parametrize(
    ("text", "number", "sizes", "told"),
    [
        ("row 1 of 4: too dark", 1, [5, 4], "row 6 of 9: too dark"),
        ("too dark", 1, [5, 4], "rows 5 to 8 of 9: too dark"),
        ("too dark", 1, [5, 1], "row 5 of 6: too dark"),
        ("row 3 of 8: too dark", 0, [8], "row 3 of 8: too dark"),
        ("too dark", 0, [8], "too dark"),
    ],
)
def test_the_failure_of_a_request_of_several_rows_is_told_of_the_row_of_the_batch(
    text: str, number: int, sizes: list[int], told: str
) -> None:
    error = request_error("BadInput", text, "the traceback", "00abc-1")
    found = of_rows(error, number, sizes)
    assert (type(found), str(found), found.request) == (BadInput, told, "00abc-1")


def test_answers_of_several_rows_are_put_together() -> None:
    interface = Interface("demo", "1", (), (SCORES,), ())
    one, other = f32(2, 3), f32(1, 3)
    values, copied = joined(interface, [{"scores": one}, {"scores": other}])
    assert (values["scores"] == np.concatenate([one, other])).all()
    assert not values["scores"].flags.writeable
    assert copied == one.nbytes + other.nbytes
