"""Exchanges: bytes over one connection of TCP, and whether what came back may be."""

from __future__ import annotations

import json
import socket
import zlib
from contextlib import suppress

import h11

from pipeline.kserve import http_response
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.values import Region
from tests.fuzz.http_cases import expected

#: Seconds after which an answer is taken for one that never comes.
WATCHDOG_S = 200.0
#: Seconds for which an answer is awaited that need not come.
_MOMENT_S = 0.02
#: The codes of answers to odd requests; 500 and 504 have their reasons below.
_TAKEN = {200, 400, 401, 403, 404, 405, 413, 415, 429, 501}
#: What Triton answers with 500 as well, although the caller is at fault.
_AS_TRITON = ("failed to load", "Unable to open shared memory region")
#: Outputs that say nothing of their data are in the region of the samples.
_OUTSIDE = dict.fromkeys(("OUTPUT0", "OUTPUT1"), Region("fuzz", 0, 64))

#: What has no end: the pictures of cameras.
_ENDLESS = b"multipart/x-mixed-replace"

Answer = tuple[int, dict[bytes, bytes], bytes]


def exchange(address: tuple[str, int], raw: bytes) -> tuple[list[Answer], bool]:
    """The answers to these bytes, and whether all came that must."""
    methods, whole, rest = expected(raw)
    wanted = whole + (rest == "wrong")
    reader = h11.Connection(h11.CLIENT)
    answers: list[Answer] = []
    with socket.create_connection(address) as stream:
        stream.settimeout(WATCHDOG_S)
        # What refuses a request early may close before all of it was sent.
        with suppress(OSError):
            stream.sendall(raw)
        while len(answers) < wanted or rest in ("more", "odd"):
            stream.settimeout(WATCHDOG_S if len(answers) < wanted else _MOMENT_S)
            method = methods[len(answers)] if len(answers) < len(methods) else "GET"
            answer = _answer(stream, reader, method)
            if answer is None:
                break
            answers.append(answer)
            if reader.our_state is not h11.DONE or reader.their_state is not h11.DONE:
                # The server closes: what follows has no answer.
                return answers, True
            reader.start_next_cycle()
    return answers, len(answers) >= wanted


def _answer(stream: socket.socket, reader: h11.Connection, method: str) -> Answer | None:
    """The next one; None: there is none."""
    with suppress(h11.LocalProtocolError):
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    with suppress(h11.LocalProtocolError):
        reader.send(h11.EndOfMessage())
    status, headers, body = 0, {}, b""
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            try:
                data = stream.recv(1 << 16)
            except (TimeoutError, ConnectionResetError):
                return None
            if not data and not status:
                return None
            reader.receive_data(data)
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, dict(event.headers)
            if method != "HEAD" and headers.get(b"content-type", b"").startswith(_ENDLESS):
                return status, headers, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, body
        elif isinstance(event, h11.ConnectionClosed):
            return None


def why_not(raw: bytes, answers: list[Answer], complete: bool) -> str:
    """What is wrong with these answers; empty: nothing."""
    methods, whole, rest = expected(raw)
    if not complete:
        return f"no answer: {len(answers)} of {whole} came, and behind them is {rest or 'nothing'}"
    for number, (status, headers, body) in enumerate(answers):
        head = number < len(methods) and methods[number] == "HEAD"
        if status == 200:
            if headers.get(HEADER.lower().encode()):
                http_response.decode(_plain(headers, body), headers[HEADER.lower().encode()].decode(), regions=_OUTSIDE)
            continue
        if head:
            if body:
                return "a body in answer to HEAD"
            continue
        if headers.get(b"content-type") != b"application/json":
            return f"{status} of {headers.get(b'content-type')!r}: {body[:200]!r}"
        try:
            document = json.loads(body)
        except ValueError:
            return f"{status} without JSON: {body[:200]!r}"
        message = document.get("error")
        if list(document) != ["error"] or not isinstance(message, str) or not message or len(message) > 3000:
            return f"{status} with {body[:200]!r}"
        if "Traceback" in message or ".py" in message:
            return f"{status} tells of the inside: {message[:300]}"
        timed_out = status == 504 and b"timeout" in raw
        if status not in _TAKEN and not timed_out and not (status == 500 and message.startswith(_AS_TRITON)):
            return f"{status}: {message[:300]}"
    return ""


def _plain(headers: dict[bytes, bytes], body: bytes) -> bytes:
    coding = headers.get(b"content-encoding", b"")
    return zlib.decompress(body, {b"gzip": 31, b"deflate": 15}[coding]) if coding else body
