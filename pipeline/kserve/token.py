"""Token: what a bearer token may be, for servers and for clients. Pure."""

from __future__ import annotations

__all__ = ["why_no_token"]


def why_no_token(token: object) -> str:
    """Why this cannot travel as `Authorization: Bearer TOKEN`, over HTTP and over gRPC alike; empty: it can.

    The answer never has the token in it.
    """
    if not isinstance(token, str):
        return f"expected a string, found {type(token).__name__}"
    if not token:
        return "expected a token, found an empty string; None is without one"
    for place, character in enumerate(token):
        if not "!" <= character <= "~":
            what = "a line break" if character in "\r\n" else f"U+{ord(character):04X}"
            return f"expected letters, digits and signs of ASCII without spaces, found {what} at character {place + 1}"
    return ""
