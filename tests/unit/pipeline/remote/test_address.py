"""What the URL of a server says."""

from __future__ import annotations

import pytest

from pipeline.errors import InvalidRequest
from pipeline.remote.address import Address, address_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://host:81", Address("grpc", "host", 81)),
        ("grpc://host", Address("grpc", "host", 8001)),
        ("GRPCS://Host:1", Address("grpcs", "host", 1)),
        ("http://host", Address("http", "host", 8000)),
        ("https://host/serving/v2/", Address("https", "host", 443, "/serving")),
        ("http://[::1]:80/", Address("http", "::1", 80)),
    ],
)
def test_a_url_names_scheme_host_port_and_path(url: str, expected: Address) -> None:
    assert address_of(url) == expected
    assert address_of(str(expected)) == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("host:8001", "expected grpc://"),
        ("grcp://host", r"did you mean grpc\?"),
        ("ftp://host", "expected grpc://"),
        ("http://", "names no host"),
        ("http://host:x", "found 'http://host:x'"),
        ("http://me:secret@host", "token="),
        ("grpc://host/path", "gRPC has no path"),
        (8001, "found int"),
        ("grpc://host:0", "0 is no port"),
        ("http://host:1\n", "white space"),
        (" http://host:1", "expected grpc://"),
    ],
)
def test_what_is_no_such_url_is_refused_and_secrets_are_not_repeated(url: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as raised:
        address_of(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "here"), [("localhost", True), ("127.0.0.5", True), ("::1", True), ("10.0.0.1", False), ("host", False)]
)
def test_this_host_is_loopback_and_nothing_else(host: str, here: bool) -> None:
    assert Address("grpc", host, 1).is_here == here


def test_tls_and_grpc_follow_from_the_scheme() -> None:
    assert [address_of(f"{scheme}://h").has_tls for scheme in ("grpc", "grpcs", "http", "https")] == [False, True] * 2
    assert [address_of(f"{scheme}://h").is_grpc for scheme in ("grpcs", "https")] == [True, False]
