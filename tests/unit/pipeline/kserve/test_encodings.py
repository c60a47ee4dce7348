from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import KserveError
from pipeline.kserve.encodings import accepted, compressed, decompressed
from pipeline.kserve.statuses import status_of

BODY = b'{"inputs":[]}' * 20
#: Without the time: it is in names of tests, which must be the same in every process.
ZIPPED = gzip.compress(BODY, mtime=0)


@given(st.lists(st.binary(max_size=50), max_size=4), st.sampled_from(["gzip", "deflate"]))
def test_parts_are_one_stream_that_gives_them_back(parts: list[bytes], encoding: str) -> None:
    assert decompressed(compressed(parts, encoding), encoding, 1000) == b"".join(parts)


def test_the_streams_are_those_of_other_libraries() -> None:
    assert gzip.decompress(compressed([BODY], "gzip")) == zlib.decompress(compressed([BODY], "deflate")) == BODY
    assert decompressed(gzip.compress(BODY), " GZIP ", 1000) == BODY
    assert decompressed(zlib.compress(BODY), "deflate", 1000) == BODY


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_body_without_an_encoding_is_as_it_is(encoding: str) -> None:
    assert decompressed(BODY, encoding, 1000) is BODY


@pytest.mark.parametrize("encoding", ["br", "gzip, deflate", "x-gzip", "zstd"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(KserveError, match="expected a Content-Encoding of gzip, deflate or identity") as caught:
        decompressed(BODY, encoding, 1000)
    assert status_of(caught.value).http == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_what_becomes_more_than_the_limit_is_refused(encoding: str) -> None:
    body = compressed([BODY], encoding) if encoding else BODY
    assert decompressed(body, encoding, len(BODY)) == BODY
    with pytest.raises(KserveError, match=f"at most {len(BODY) - 1} bytes") as caught:
        decompressed(body, encoding, len(BODY) - 1)
    assert status_of(caught.value).http == 413


def test_a_bomb_takes_no_more_memory_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = zlib.decompressobj

    class Reader:
        def __init__(self, wbits: int) -> None:
            self._reader = real(wbits)

        def decompress(self, body: bytes, most: int) -> bytes:
            asked.append(most)
            return self._reader.decompress(body, most)

    monkeypatch.setattr(zlib, "decompressobj", Reader)
    with pytest.raises(KserveError, match="at most 1000 bytes"):
        decompressed(gzip.compress(bytes(10_000_000)), "gzip", 1000)
    assert asked == [1001]


@pytest.mark.parametrize(
    ("body", "encoding", "part"),
    [
        (BODY, "gzip", "expected a body in gzip"),
        (BODY, "deflate", "expected a body in deflate"),
        (ZIPPED[:-1], "gzip", "expected the end of the gzip stream"),
        (b"", "gzip", "expected the end of the gzip stream"),
        (ZIPPED + b"xx", "gzip", "found 2 bytes behind its end"),
        (ZIPPED * 2, "gzip", "expected one gzip stream"),
        (zlib.compress(BODY)[2:-4], "deflate", "expected a body in deflate"),
    ],
)
def test_what_is_no_such_stream_is_refused(body: bytes, encoding: str, part: str) -> None:
    with pytest.raises(KserveError, match=part):
        decompressed(body, encoding, 1000)


@settings(max_examples=150)
@given(st.binary(max_size=80), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_refused_or_give_at_most_the_limit(body: bytes, encoding: str) -> None:
    try:
        found = decompressed(body, encoding, 100)
    except KserveError:
        return
    assert len(found) <= 100


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("br, gzip;q=0.5, deflate", "deflate"),  # Triton 2.51 too
        ("gzip, deflate", "gzip"),
        ("gzip;q=0", ""),
        ("*", ""),  # Triton 2.51 too
        ("GZIP; Q=0.3", "gzip"),
        ("gzip;q=x", ""),
        ("gzip;q=nan", ""),
        ("gzip;q=7", ""),
        ("br", ""),
    ],
)
def test_a_response_has_the_encoding_of_the_highest_weight(header: str, chosen: str) -> None:
    assert accepted(header) == chosen
