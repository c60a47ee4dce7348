"""Multipart: pictures and documents one after the other in one answer that does not end. Pure.

    --frame CRLF  Content-Type, Content-Length, Content-Location  CRLF CRLF  bytes CRLF  --frame CRLF  ...

The line that ends a part follows it at once: browsers show a picture when they have read that
(https://html.spec.whatwg.org/multipage/document-lifecycle.html, "multipart/x-mixed-replace").
"""

from __future__ import annotations

__all__ = ["MEDIA_TYPE", "OPENING", "part"]

_BOUNDARY = "frame"
MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
OPENING = f"--{_BOUNDARY}\r\n".encode()
"""Before the first part."""


def part(media_type: str, location: str, content: bytes) -> bytes:
    """One part.

    Args:
        location: whose it is: a path, of characters that a header may have.
    """
    head = f"Content-Type: {media_type}\r\nContent-Length: {len(content)}\r\nContent-Location: {location}\r\n\r\n"
    return head.encode("ascii") + content + b"\r\n" + OPENING
