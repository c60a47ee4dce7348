from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import DATATYPES
from pipeline.kserve.json_data import has_words, loads_with_words, read_data, write_data
from pipeline.kserve.values import InferTensor
from tests.unit.pipeline.kserve.examples import typed_tensors


def read(datatype: str, shape: tuple[int, ...], text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return read_data(DATATYPES[datatype], shape, msgspec.Raw(raw), "input 'a'")


@settings(max_examples=100)
@given(typed_tensors())
def test_elements_are_the_same_flat_nested_and_read_either_way(pair: tuple[InferTensor, list[Any]]) -> None:
    tensor, _ = pair
    assert tensor.data is not None
    kind = DATATYPES[tensor.datatype]
    text = bytes(write_data(kind, tensor.shape, tensor.data, "t"))
    flat = loads_with_words(text)
    nested = np.array(flat, dtype=object).reshape(tensor.shape).tolist() if tensor.shape else flat
    forms = [flat, nested] if has_words(text) else [flat, nested, msgspec.Raw(text), msgspec.Raw(msgspec.json.encode(nested))]
    for form in forms:
        found = read_data(kind, tensor.shape, form, "t")
        if kind.name in ("FP32", "FP64"):
            np.testing.assert_array_equal(np.frombuffer(found, kind.dtype), np.frombuffer(tensor.data, kind.dtype))
        else:
            assert found == tensor.data


@pytest.mark.parametrize(
    ("datatype", "text", "part"),
    [
        # Triton 2.51 answers each with 500.
        ("INT32", "[1.5]", "Expected `int`, got `float`"),
        ("INT32", "[1.0]", "Expected `int`, got `float`"),
        ("INT32", "[true]", "Expected `int`, got `bool`"),
        ("INT32", '["1"]', "Expected `int`, got `str`"),
        ("UINT8", "[-1]", "expected numbers from 0 to 255 for UINT8, found -1"),
        ("INT64", "[9223372036854775808]", "expected numbers from -9223372036854775808 to 9223372036854775807"),
        ("BOOL", "[1]", "Expected `bool`, got `int`"),
        ("FP32", '["NaN"]', "Expected `float`, got `str`"),
        ("FP32", "[true]", "Expected `float`, got `bool`"),
        ("FP32", "[null]", "Expected `float`, got `null`"),
        ("FP32", "[1e999]", "out of range"),
        ("BYTES", "[5]", "Expected `str`, got `int`"),
        ("BYTES", '[{"b64":"YQ=="}]', "Expected `str`, got `object`"),
        ("INT32", "5", "Expected `array`, got `int`"),
        ("INT32", "null", "Expected `array`, got `null`"),
        ("INT32", "[]", "expected 1 elements .* found fewer"),
        ("INT32", "[1,2]", "expected 1 elements .* found more"),
        # It keeps the low bits of these.
        ("INT32", "[2147483648]", "expected numbers from -2147483648 to 2147483647 for INT32, found 2147483648"),
        ("UINT8", "[256]", "expected numbers from 0 to 255 for UINT8, found 256"),
        ("UINT64", "[18446744073709551616]", "found 18446744073709551616"),
        # And makes infinity of this.
        ("FP32", "[1e39]", r"expected numbers that fit FP32, found 1e\+39"),
        ("FP16", "[1]", "receiving FP16 data via JSON is not supported"),
    ],
)
def test_an_element_that_does_not_fit_is_refused(datatype: str, text: str, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        read(datatype, (1,), text)


def test_what_fits_is_read() -> None:
    assert read("FP32", (2,), "[1, -0.0]") == np.array([1, -0.0], np.float32).tobytes()
    assert read("BYTES", (2,), '["é", "\\u0000a"]') == b"\2\0\0\0\xc3\xa9\2\0\0\0\0a"
    assert read("INT64", (2,), "[9223372036854775807,-9223372036854775808]") == np.array([2**63 - 1, -(2**63)]).tobytes()
    assert read("INT32", (), "[7]") == np.array(7, np.int32).tobytes()


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2, 2), "[[1,2,3],[4]]"),
        ((2, 2), "[[1,2],3,4]"),
        ((2, 2), "[[[1,2],[3,4]]]"),
        ((4,), "[[1,2],[3,4]]"),
        ((2, 2), "[[1,2,3,4]]"),
        ((2, 2, 2), "[[1,2,3,4],[5,6,7,8]]"),
        ((2, 0), "[[]]"),
        ((2, 0), "[[],[1]]"),
        ((0,), "[1]"),
    ],
)
def test_data_that_is_nested_otherwise_than_its_shape_is_refused(shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(KserveError, match="input 'a': "):
        read("INT32", shape, text)
    with pytest.raises(KserveError, match="input 'a': "):
        read_data(DATATYPES["INT32"], shape, loads_with_words(text.encode()), "input 'a'")


def test_empty_data_may_be_nested_too() -> None:
    assert read("INT32", (2, 0), "[[],[]]") == read("INT32", (2, 0), "[]") == b""


def test_a_shape_asks_for_no_memory_and_a_deep_list_for_no_stack() -> None:
    with pytest.raises(KserveError, match="found fewer"):
        read("FP64", (2**62, 2**62), "[1]")
    with pytest.raises(KserveError, match="in its data"):
        read("INT32", (1, 1), "[" * 100_000 + "1" + "]" * 100_000)
    with pytest.raises(KserveError, match="found more"):
        read("INT32", (1,), "[" + "0," * 100_000 + "0]")


def test_words_are_numbers_and_too_large_ones_are_none() -> None:
    assert loads_with_words(b"[Infinity,-Infinity,1.5]") == [float("inf"), float("-inf"), 1.5]
    with pytest.raises(ValueError, match="out of range"):
        loads_with_words(b"[NaN,1e999]")


def test_text_that_is_not_utf8_is_refused_where_it_is_read() -> None:
    for raw in (b'["\xff"]', b'[["a"], ["\xff"]]'):
        with pytest.raises(KserveError, match="UTF-8"):
            read_data(DATATYPES["BYTES"], (2, 1), msgspec.Raw(raw), "it")


@pytest.mark.parametrize("text", [rb'["\ud800", NaN]', rb'[NaN, "\uDFFF\ud800"]', rb'{"\udc00": NaN}'])
def test_half_of_a_pair_is_no_character_beside_nan_either(text: bytes) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        loads_with_words(text)


def test_a_whole_pair_beside_nan_is_one_character() -> None:
    assert loads_with_words(rb'["\ud83d\ude00", NaN]')[0] == "😀"
