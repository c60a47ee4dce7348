"""Encodings of HTTP bodies: gzip and deflate, with a bound on what comes out. Pure.

https://www.rfc-editor.org/rfc/rfc9110#name-content-codings: deflate has zlib's header and checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from pipeline.errors import KserveError

__all__ = ["ENCODINGS", "accepted", "compressed", "decompressed"]

ENCODINGS = {"gzip": 31, "deflate": 15}
"""Name -> zlib's `wbits`."""

#: Fast: a tensor's bytes seldom become much smaller.
_LEVEL = 1


def decompressed(body: bytes | memoryview, encoding: str, limit: int) -> bytes | memoryview:
    """The body itself.

    Args:
        encoding: the header Content-Encoding; "" and "identity" give the body as it is.
        limit: the most bytes that may come out.

    Raises:
        KserveError: another encoding (UNSUPPORTED_MEDIA_TYPE), more than `limit` bytes (TOO_LARGE), or no such stream.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        plain = body
    elif name in ENCODINGS:
        # At most one byte more than allowed is made, however many the stream has.
        reader = zlib.decompressobj(ENCODINGS[name])
        try:
            plain = reader.decompress(body, limit + 1)
        except zlib.error as error:
            raise KserveError(f"expected a body in {name}, as Content-Encoding says; found none: {error}") from None
        if len(plain) <= limit:
            if not reader.eof:
                raise KserveError(f"expected the end of the {name} stream, found the end of the body")
            if reader.unused_data:
                raise KserveError(f"expected one {name} stream, found {len(reader.unused_data)} bytes behind its end")
    else:
        raise KserveError(
            f"expected a Content-Encoding of gzip, deflate or identity, found {encoding[:100]!r}",
            "UNSUPPORTED_MEDIA_TYPE",
        )
    if len(plain) > limit:
        raise KserveError(f"expected a body of at most {limit} bytes, found more", "TOO_LARGE")
    return plain


def compressed(parts: Iterable[bytes | memoryview], encoding: str) -> bytes:
    """One stream of all parts, in one of `ENCODINGS`."""
    writer = zlib.compressobj(_LEVEL, zlib.DEFLATED, ENCODINGS[encoding])
    return b"".join([*[writer.compress(part) for part in parts], writer.flush()])


def accepted(header: str) -> str:
    """The encoding for a response: of those that the header Accept-Encoding names, the one of the highest weight.

    Empty: none. `*` asks for none in particular, and so gets none; Triton does the same.
    """
    best, weight = "", 0.0
    for item in header.split(","):
        name, _, rest = item.partition(";")
        key, _, value = rest.partition("=")
        try:
            found = float(value) if key.strip().lower() == "q" else 1.0
        except ValueError:
            found = 0.0
        if name.strip().lower() in ENCODINGS and weight < found <= 1.0:
            best, weight = name.strip().lower(), found
    return best
