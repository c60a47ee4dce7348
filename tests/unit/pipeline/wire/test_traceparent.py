from __future__ import annotations

import pytest

from pipeline.wire.traceparent import LONGEST, misfit

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    "text",
    ["", f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-ff", f"01-{TRACE}-{PARENT}-00", f"cc-{TRACE}-{PARENT}-01-what.the-future"],
)
def test_a_trace_context_as_w3c_writes_it_is_taken(text: str) -> None:
    assert misfit(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", "expected a traceparent 00-<32 hex digits>"),
        (f"00-{TRACE.upper()}-{PARENT}-01", "expected a traceparent 00-<32 hex digits>"),
        (f"00-{TRACE}-{PARENT}", "expected a traceparent 00-<32 hex digits>"),
        (f"00-{TRACE}-{PARENT}-01\n", "expected a traceparent 00-<32 hex digits>"),
        (f"ff-{TRACE}-{PARENT}-01", "of a version below ff"),
        (f"00-{TRACE}-{PARENT}-01-more", "no more than four fields"),
        (f"00-{'0' * 32}-{PARENT}-01", "are not zero"),
        (f"00-{TRACE}-{'0' * 16}-01", "are not zero"),
        (f"cc-{TRACE}-{PARENT}-01-{'x' * LONGEST}", f"at most {LONGEST} characters, found"),
    ],
)
def test_what_is_no_trace_context_is_refused_with_the_reason(text: str, why: str) -> None:
    assert why in str(misfit(text))
