"""Byte quantities: the two families of units, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.quantities import format_bytes, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("10b", 10),
        ("1024B", 1024),
        ("1024", 1024),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("10MB", 10_000_000),
        ("16MiB", 16 << 20),
        ("608.0 KiB", 608 * 1024),
        ("2.4gb", 2_400_000_000),
        ("2.4GiB", 2_576_980_377),
        ("1TiB", 1 << 40),
        (" 3 MiB ", 3 << 20),
        (0, 0),
        (77, 77),
    ],
)
def test_a_quantity_is_read(text: object, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("value", ["", "MiB", "-1", -1, "1 2", "1QiB", "10ib", "1e3", "1,5MB", "0x10", True, 1.5, None, []])
def test_what_is_not_a_quantity_is_refused_with_both_families(value: object) -> None:
    with pytest.raises(ValueError, match=r'"608KiB" \(powers of 1024\) or "10MB" \(powers of 1000\)'):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (622_592, "608.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (16 << 20, "16.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 50, "1024.0 TiB"),
    ],
)
def test_a_size_is_shown_in_powers_of_1024(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@given(st.integers(0, 1 << 60), st.sampled_from(["", "B", "b"]))
def test_whole_bytes_round_trip(nbytes: int, unit: str) -> None:
    assert parse_bytes(f"{nbytes}{unit}") == nbytes


@given(st.integers(0, 1 << 50))
def test_what_is_shown_reads_back_within_its_precision(nbytes: int) -> None:
    shown = parse_bytes(format_bytes(nbytes))
    assert abs(shown - nbytes) <= max(0, nbytes * 0.051)


@pytest.mark.parametrize(("text", "seconds"), [(90, 90), (0.5, 0.5), ("30s", 30), ("10min", 600), (" 1.5 h ", 5400), ("7d", 604_800)])
def test_lengths_of_time_are_seconds_or_texts(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("value", [-1, True, "7", "7 w", "d", "-1d", float("inf"), None])
def test_what_is_no_length_of_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected seconds"):
        parse_seconds(value)


@pytest.mark.parametrize("parse", [parse_bytes, parse_seconds])
def test_a_text_of_thousands_of_digits_is_no_quantity(parse: Callable[[object], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse("9" * 5000 + "s" if parse is parse_seconds else "9" * 5000 + "MiB")
