"""Assets: the files of the page, what a browser may do with them, and which callers want the page. No sockets.

The files lie beside this module and are read once. Everything that the page loads comes from its own server: the
browser refuses any other source, inline scripts and styles included (`HEADERS`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["HEADERS", "INDEX", "Asset", "assets", "is_known", "tag_of", "wants_page"]

INDEX = "index.html"
"""The file at `/`."""

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every file of the page."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str


@cache
def assets() -> Mapping[str, Asset]:
    """The files by name."""
    found = {}
    for entry in resources.files(__package__).iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            found[entry.name] = Asset(entry.read_bytes(), _TYPES[suffix])
    return found


def tag_of(content: bytes) -> str:
    """The ETag of a content: another content has another one."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_known(tag: str, none_match: str) -> bool:
    """Whether the caller has this content already.

    Args:
        none_match: its header If-None-Match; empty: there is none.
    """
    known = [each.strip().removeprefix("W/") for each in none_match.split(",")]
    return tag in known or "*" in known


def wants_page(accept: str) -> bool:
    """Whether this caller is a browser that asks for a page, which names text/html; curl, for one, does not.

    Args:
        accept: its header Accept.
    """
    for each in accept.lower().split(","):
        name, *parameters = [part.strip() for part in each.split(";")]
        if name in ("text/html", "application/xhtml+xml"):
            # A weight of 0 says "not this one": https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2
            return not any(part.startswith("q=") and not part[2:].strip("0.") for part in parameters)
    return False
