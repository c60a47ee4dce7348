"""Lines of files and of stdin."""

from __future__ import annotations

import io
import os
import time

import pytest

from pipeline.feeding.lines import StdinReader, lines_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb", [b"a", b"b"]),
        (b"a\n\nb\n\n", [b"a", b"", b"b", b""]),
        ("\u2028\x0bc\n".encode(), ["\u2028\x0bc".encode()]),
        (b"12345\n", [b"12345"]),
        (b"12345\r\n", [b"12345"]),
        (b"12345", [b"12345"]),
        (b"123456\n1\n", [None, b"1"]),
        (b"123456\r\n1\n", [None, b"1"]),
        (b"123456", [None]),
        (b"1234567\n1\n", [None, b"1"]),
        (b"1" * 200_000 + b"\n1\n", [None, b"1"]),
        (b"1" * 200_000, [None]),
    ],
)
def test_only_a_line_feed_ends_a_line_and_one_that_is_too_long_is_passed_over(
    data: bytes, expected: list[bytes | None]
) -> None:
    assert list(lines_of(io.BytesIO(data), 5)) == expected


def taken(reader: StdinReader) -> list[bytes | None]:
    items = []
    while True:
        try:
            items.append(reader.take(5.0))
        except EOFError:
            return items


def test_stdin_is_read_while_nothing_comes_and_to_its_end() -> None:
    read, write = os.pipe()
    reader = StdinReader(read, 100, whole=False)
    with pytest.raises(TimeoutError):
        reader.take(0.0)
    os.write(write, b"one\ntw")
    assert reader.take(5.0) == b"one"
    with pytest.raises(TimeoutError):
        reader.take(0.01)
    os.write(write, b"o\n")
    assert reader.take(5.0) == b"two"
    os.close(write)
    assert taken(reader) == []
    time.sleep(0.01)
    os.close(read)


@pytest.mark.parametrize(("data", "expected"), [(b"", [b""]), (b"a\nb\n", [b"a\nb\n"]), (b"123456", [None])])
def test_all_of_stdin_may_be_one_item(data: bytes, expected: list[bytes | None]) -> None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    assert taken(StdinReader(read, 5, whole=True)) == expected
    os.close(read)


def test_what_cannot_be_read_is_told_before_the_end(tmp_path: object) -> None:
    folder = os.open(str(tmp_path), os.O_RDONLY)
    reader = StdinReader(folder, 5, whole=False)
    with pytest.raises(IsADirectoryError):
        reader.take(5.0)
    with pytest.raises(EOFError):
        reader.take(5.0)
    os.close(folder)
