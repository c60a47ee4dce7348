"""Cases for the front over HTTP: the bytes of one or more requests, most of them odd in one way. Pure."""

from __future__ import annotations

import gzip
import zlib
from random import Random

import h11

from pipeline.kserve import http_request
from pipeline.kserve.http_body import HEADER
from pipeline.serving.endpoints import ENDPOINTS
from tests.fuzz.mutations import NUMBERS, odd_bytes, odd_tree, text_of, tree_of
from tests.fuzz.samples import binary, documents

#: Bytes of the headers that the gateway takes.
MOST_HEADERS = 64 << 10
_NAMES = ("simple", "identity_string", "repeat_int32", "nope", "", "..", "%00", "%ff", "a%2Fb", "s" * 3000)
_PATHS = [path for row in ENDPOINTS if row.http and row.name != "metrics" for path in row.paths]

Headers = list[tuple[bytes, bytes]]

_ODD_HEADERS: list[tuple[bytes, bytes]] = [
    (b"Host", b"localhost"), (b"Host", b"[::1"), (b"Host", b"[::1]:x"), (b"Host", b"[" + b":" * 300), (b"Host", b"a@b:c@d"),
    (b"Host", b""), (b"Host", b"\xff\xfe"), (b"Host", b"localhost:99999999"), (b"Origin", b"http://[::1"), (b"Origin", b"null"),
    (b"Origin", b"\xff"), (b"Content-Length", b"0"), (b"Content-Length", b"5"), (b"Content-Length", b"-1"),
    (b"Content-Length", b"18446744073709551616"), (b"Content-Length", b"1, 1"), (b"Content-Length", b"+5"),
    (b"Content-Length", b"9" * 30), (b"Content-Length", "٣".encode()), (b"Transfer-Encoding", b"chunked"),
    (b"Transfer-Encoding", b"identity"), (b"Transfer-Encoding", b"gzip, chunked"), (b"Transfer-Encoding", b"chunked, chunked"),
    (b"Transfer-Encoding", b"\x0bchunked"), (b"Transfer-Encoding ", b"chunked"), (b"Connection", b"close"),
    (b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c"), (b"Expect", b"100-continue"),
    (b"Expect", b"200-ok"), (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"deflate"), (b"Content-Encoding", b"br"),
    (b"Content-Encoding", b"gzip, gzip"), (b"Content-Encoding", b"\xff"), (b"Accept-Encoding", b"gzip;q=NaN, deflate;q=1e9"),
    (b"Accept-Encoding", b"gzip"), (b"Accept-Encoding", b";;,,=;q"), (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    (b"traceparent", b"\xff-\xff"), (b"traceparent", b"-" * 5000), (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 9000 + b"-01"),
    (b"Authorization", b"Bearer \xff"), (b"X", b"y" * 9000), (b"X", b"y" * 70_000), (b"X" * 9000, b"y"), (b"", b"x"), (b"a b", b"x"),
    (b"X", b"a\r\n folded"), (b"X", b"a\nSet-Cookie: b"), (b"X", b"\x00"), (HEADER.encode(), b"0"), (HEADER.encode(), b"10"),
    (HEADER.encode(), b"\xff"), (HEADER.encode(), b"9" * 5000), (HEADER.encode(), "١".encode()), (b"Content-Type", b"application/grpc"),
]  # fmt: skip


def case(seed: int | str) -> bytes:
    """The bytes of this seed's requests."""
    rng = Random(f"http {seed}")
    requests = [_one(rng) for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 3)))]
    raw = b"".join(requests)
    return odd_bytes(rng, raw[:3000]) + raw[3000:] if rng.random() < 0.15 else raw


def _one(rng: Random) -> bytes:
    method, path, headers, body = _call(rng) if rng.random() < 0.35 else _inference(rng)
    version = b"HTTP/1.1"
    headers = [(b"Host", b"localhost"), *headers]
    if rng.random() < 0.25 and body:
        coding = rng.choice(("gzip", "deflate"))
        body = gzip.compress(body, 1, mtime=0) if coding == "gzip" else zlib.compress(body)
        headers.append((b"Content-Encoding", coding.encode()))
        if rng.random() < 0.5:
            body = odd_bytes(rng, body)
    if rng.random() < 0.3:
        body_sent = _chunks(rng, body)
        headers.append((b"Transfer-Encoding", b"chunked"))
    else:
        body_sent = body
        headers.append((b"Content-Length", str(len(body)).encode()))
    if rng.random() < 0.45:
        headers = _odd_headers(rng, headers)
    line = b" ".join((method, path, version))
    if rng.random() < 0.06:
        line = odd_bytes(rng, line)
    return line + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body_sent


def _call(rng: Random) -> tuple[bytes, bytes, Headers, bytes]:
    """Any call beside inference."""
    path = rng.choice(_PATHS)
    for name, values in (
        ("{model}", _NAMES),
        ("{version}", ("1", "7", "x", "%d9%a1")),
        ("{region}", ("fuzz", "nope", "r" * 300)),
    ):
        path = path.replace(name, rng.choice(values))
    method = rng.choice((b"GET", b"POST", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"DELETE"))
    documents: list[object] = [
        {"ready": True}, {"parameters": {"config": "x"}}, {"key": "/fuzz_nope", "offset": 0, "byte_size": 64},
        {"log_verbose_level": 0, "log_info": True}, {"trace_level": ["OFF"], "trace_rate": "1"}, {},
    ]  # fmt: skip
    body = text_of(odd_tree(rng, tree_of(rng.choice(documents)))) if rng.random() < 0.7 else b""
    return method, path.encode(), [], body


def _inference(rng: Random) -> tuple[bytes, bytes, Headers, bytes]:
    headers: Headers = []
    if rng.random() < 0.5:
        model, document = rng.choice(documents())
        tree = tree_of(document)
        body = text_of(odd_tree(rng, tree) if rng.random() < 0.85 else tree)
    else:
        request = rng.choice(binary())
        model = request.model
        written = http_request.encode(request)
        body = b"".join(written.parts)
        length = str(len(body) if written.json_length is None else written.json_length)
        if rng.random() < 0.2:
            length = rng.choice(NUMBERS[:-1])
        headers.append((HEADER.encode(), length.encode()))
        if rng.random() < 0.5:
            body = odd_bytes(rng, body)
    version = rng.choice(("", "", "", "/versions/1", "/versions/x", "/versions/" + "9" * 400))
    return b"POST", f"/v2/models/{model}{version}/infer".encode(), headers, body


def _odd_headers(rng: Random, headers: Headers) -> Headers:
    headers = list(headers)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(headers) + 1)
        match rng.randrange(5):
            case 0 if headers:
                del headers[at % len(headers)]
            case 1 if headers:
                headers.insert(at, headers[at % len(headers)])
            case 2 if headers:
                name, value = headers[at % len(headers)]
                headers[at % len(headers)] = (name, odd_bytes(rng, value))
            case 3:
                headers += [(b"X-%d" % number, b"v") for number in range(rng.choice((100, 2000)))]
            case _:
                headers.insert(at, rng.choice(_ODD_HEADERS))
    return headers


def _chunks(rng: Random, body: bytes) -> bytes:
    size = rng.choice((1, 7, 100, 100_000))
    if size < len(body) // 500:
        size = 100_000
    out = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        out.append(b"%x\r\n%b\r\n" % (len(part), part))
    ends = (
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"00;ext=1\r\n\r\n",
        b"0\r\n",
        b"",
        b"-1\r\n\r\n",
        b"fffffffffffffffffff\r\n",
        b"x\r\n",
    )
    raw = b"".join(out) + (ends[0] if rng.random() < 0.7 else rng.choice(ends))
    return odd_bytes(rng, raw) if rng.random() < 0.15 else raw


def expected(raw: bytes) -> tuple[list[str], int, str]:
    """What a server must make of these bytes: the methods of the requests, and what follows them.

    Returns:
        methods, how many of these requests are whole, and "" (nothing follows), "wrong" (which needs an answer), "more"
        (the rest of it is not there), or "odd" (none of these).
    """
    reader = h11.Connection(h11.SERVER, MOST_HEADERS)
    reader.receive_data(raw)
    reader.receive_data(b"")
    methods: list[str] = []
    whole = 0
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                methods.append(event.method.decode())
                if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                    return methods, whole, "wrong"
                headers = [value.lower() for name, value in event.headers if name == b"connection"]
                over = any(b"close" in value for value in headers) or event.http_version < b"1.1"
            elif isinstance(event, h11.EndOfMessage):
                whole += 1
                if over:
                    return methods, whole, ""
                # As if it had been answered.
                reader.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
                reader.send(h11.EndOfMessage())
                if reader.our_state is not h11.DONE:
                    return methods, whole, ""
                reader.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return methods, whole, ""
            elif event is h11.PAUSED:
                return methods, whole, "odd"
    except h11.RemoteProtocolError as error:
        incomplete = "peer closed connection" in str(error) or "unexpectedly" in str(error)
        return methods, whole, "more" if incomplete else "wrong"
