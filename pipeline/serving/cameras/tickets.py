"""Tickets: what stands for the token in the address of one file, for a while. Pure.

A browser sends no header with the address of a picture or a video. So what needs the token gives out addresses with a
ticket: until when it is good, and a keyed hash of that and the path (HMAC-SHA256, the token is the key). All gateways
of one token take it, none has to keep it, and it opens nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import math

from pipeline.errors import KserveError

__all__ = ["check_ticket", "ticket_for"]

_GOOD_S = 3600
_NAME = b"trtlab ticket"


def ticket_for(token: str, path: str, now: float) -> str:
    """A ticket for a path, good for at least an hour. Within an hour it is the same, so that browsers keep the file.

    Args:
        now: seconds since 1970.
    """
    until = (math.floor(now / _GOOD_S) + 2) * _GOOD_S
    return f"{until}-{_hash(token, path, until)}"


def check_ticket(token: str, path: str, ticket: str, now: float) -> None:
    """That a ticket is for this path, and still good.

    Raises:
        KserveError: it is not (UNAUTHENTICATED).
    """
    until, _, given = ticket.partition("-")
    good = until.isascii() and until.isdigit() and len(until) < 20
    # Both in the same time, however much of it is right.
    if not good or not hmac.compare_digest(given.encode(), _hash(token, path, int(until)).encode()):
        raise KserveError(
            "the ticket in this address is of another file or server: open the page anew", "UNAUTHENTICATED"
        )
    if now >= int(until):
        raise KserveError("the ticket in this address is too old: open the page anew", "UNAUTHENTICATED")


def _hash(token: str, path: str, until: int) -> str:
    return hmac.new(token.encode(), _NAME + f"\n{until}\n{path}".encode(), hashlib.sha256).hexdigest()
