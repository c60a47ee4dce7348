"""Statuses: what an error is to HTTP and to gRPC. One table; each direction reads it. Pure.

The codes are those that Triton 2.51 gives, except that bad JSON and other malformed input are 400 in place of 500, and
an unknown `Content-Encoding` is 415 in place of 501: the sender is at fault, and it must not try the same again.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from pipeline.errors import KserveError, RequestError

__all__ = [
    "ERROR_HEADER",
    "STATUSES",
    "Status",
    "error_body",
    "error_of_failure",
    "error_of_grpc",
    "error_of_http",
    "status_of",
]

ERROR_HEADER = "trtlab-error"
"""A header of HTTP, metadata of gRPC and a parameter of a stream's response: by it a gateway of ours tells clients of
ours the class of the error, of which the status has no more than the kind."""

#: Characters of a message that are taken over from another server.
_LONGEST = 4096


class Status(NamedTuple):
    """One kind of error."""

    code: str
    """What `KserveError.code` says."""
    http: int
    grpc: int
    """The number of https://grpc.io/docs/guides/status-codes/."""


# If two rows have one number, the first stands for it when a client reads it.
STATUSES = {
    row.code: row
    for row in (
        Status("INVALID_ARGUMENT", 400, 3),
        Status("ALREADY_EXISTS", 400, 6),
        Status("UNAUTHENTICATED", 401, 16),
        Status("PERMISSION_DENIED", 403, 7),
        Status("NOT_FOUND", 404, 5),
        Status("RESOURCE_EXHAUSTED", 429, 8),
        Status("CANCELLED", 499, 1),
        Status("INTERNAL", 500, 13),
        Status("UNIMPLEMENTED", 501, 12),
        Status("UNAVAILABLE", 503, 14),
        Status("DEADLINE_EXCEEDED", 504, 4),
        # Of HTTP alone; over gRPC grpcio answers them itself, with these numbers.
        Status("METHOD_NOT_ALLOWED", 405, 12),
        Status("TOO_LARGE", 413, 8),
        Status("UNSUPPORTED_MEDIA_TYPE", 415, 12),
    )
}

_OF_HTTP = {row.http: row.code for row in reversed(STATUSES.values())}
_OF_GRPC = {row.grpc: row.code for row in reversed(STATUSES.values())}

_OF_FAILURE = {
    "InvalidRequest": "INVALID_ARGUMENT",
    "BadInput": "INVALID_ARGUMENT",
    "StageFailed": "INTERNAL",
    "StageCrashed": "INTERNAL",
    "StageUnavailable": "UNAVAILABLE",
    "StreamBroken": "UNAVAILABLE",
    "DeadlineExceeded": "DEADLINE_EXCEEDED",
    "Cancelled": "CANCELLED",
    "Overloaded": "RESOURCE_EXHAUSTED",
    "Unavailable": "UNAVAILABLE",
}


def status_of(error: KserveError) -> Status:
    """The row of this error; a code that is not in the table is INTERNAL."""
    return STATUSES.get(error.code, STATUSES["INTERNAL"])


def error_of_failure(failure: RequestError) -> KserveError:
    """What a caller is told if its request has no answer. Tracebacks stay inside."""
    error = KserveError(str(failure), _OF_FAILURE.get(failure.code, "INTERNAL"))
    error.failure = failure.code
    return error


def error_body(error: KserveError) -> bytes:
    """The body of an HTTP response that is not 200: tritonclient reads `error` from each of them."""
    return msgspec.json.encode({"error": str(error).encode("utf-8", "replace").decode()})


def error_of_http(http: int, body: bytes | bytearray | memoryview) -> KserveError:
    """What a client makes of a response that is not 200. Other servers than Triton say `detail`, or no JSON at all."""
    code = _OF_HTTP.get(http, "INVALID_ARGUMENT" if 400 <= http < 500 else "INTERNAL")
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        document = None
    said = (document.get("error") or document.get("detail")) if isinstance(document, dict) else None
    if not isinstance(said, str):
        said = bytes(memoryview(body)[:_LONGEST]).decode("utf-8", "replace").strip()
        if said.startswith("<"):
            # A page of a proxy, or of a server of something else: its first line, which errors show, would be a tag.
            said = " ".join(re.sub("<[^>]*>", " ", said).split())
    return KserveError(said[:_LONGEST] or f"HTTP status {http} without a message", code)


def error_of_grpc(number: int, details: str) -> KserveError:
    """What a client makes of a gRPC status that is not OK."""
    return KserveError(
        details[:_LONGEST] or f"gRPC status {number} without a message", _OF_GRPC.get(number, "INTERNAL")
    )
