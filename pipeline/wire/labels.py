"""Labels: how logs, errors and answers call a request (see `stages.request`). Pure.

The id is made of what a client and the scheduler both know, so an answer need not bring it: the last five
hexadecimal digits of the client's number, and the client's own number of the request.
"""

from __future__ import annotations

__all__ = ["LONGEST_NAME", "child_label", "client_id", "label_of", "request_id", "short_name"]

LONGEST_NAME = 200
"""Characters of the name that a client may give a request: it travels with each order."""


def client_id(client: int) -> str:
    """How a client is called in the ids of its requests."""
    return f"{client & 0xFFFFF:05x}"


def request_id(client: int, tag: int) -> str:
    """The id of a client's request."""
    return f"{client & 0xFFFFF:05x}-{tag}"


def label_of(client: int, tag: int, name: str) -> str:
    """The label of a request."""
    return f"{client & 0xFFFFF:05x}-{tag} {name}" if name else f"{client & 0xFFFFF:05x}-{tag}"


def child_label(label: str, position: int) -> str:
    """The label of a child of the request, or child, with that label."""
    place, space, name = label.partition(" ")
    return f"{place}/{position}{space}{name}"


def short_name(name: object) -> str:
    """A name as text of at most `LONGEST_NAME` characters; of a long one the end, where paths differ."""
    text = str(name)
    if not text.isascii():
        # Not the wire's to escape what is no Unicode: the text would be longer then.
        text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_NAME else "..." + text[3 - LONGEST_NAME :]
