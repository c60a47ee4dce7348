"""Traceparent: trace contexts as W3C Trace Context writes them. Pure.

    00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
    version  trace id                   parent id        flags: 01 is sampled

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["LONGEST", "Context", "context_of", "misfit"]

LONGEST = 256
"""Characters: a later version may append more to the 55 of version 00."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_SAMPLED = 1


class Context(NamedTuple):
    """A span, as what it calls is told of it."""

    trace_id: int
    span_id: int
    sampled: bool
    """Whether the trace is exported: what the caller has decided holds for all that it calls."""

    def __str__(self) -> str:
        """As a traceparent of version 00, which every later version can read."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def misfit(text: str) -> str | None:
    """Why `text` is no trace context; None if it is one, or empty."""
    if not text:
        return None
    if len(text) > LONGEST:
        return f"expected a traceparent of at most {LONGEST} characters, found {len(text)}"
    found = _FORM.fullmatch(text)
    if found is None:
        return f"expected a traceparent 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, found {text!r}"
    version, trace, parent, _, more = found.groups()
    if version == "ff":
        return f"expected a traceparent of a version below ff, found {text!r}"
    if version == "00" and more is not None:
        return f"expected no more than four fields in a traceparent of version 00, found {text!r}"
    if not trace.strip("0") or not parent.strip("0"):
        return f"expected a traceparent whose trace id and parent id are not zero, found {text!r}"
    return None


def context_of(text: str) -> Context | None:
    """The context that a text is; None: it is none."""
    if not text or misfit(text) is not None:
        return None
    _, trace, parent, flags = text.split("-")[:4]
    return Context(int(trace, 16), int(parent, 16), bool(int(flags, 16) & _SAMPLED))
