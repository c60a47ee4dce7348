from __future__ import annotations

import pytest

from pipeline.wire.traceparent import LONGEST, Context, context_of, misfit

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


def test_a_context_is_read_and_written_and_what_is_none_is_no_context() -> None:
    text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    context = context_of(text)
    assert context == Context(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True)
    assert str(context) == text
    # Of the flags only the first is known; a later version may have more fields.
    assert context_of("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-x") == context._replace(sampled=False)
    assert [context_of(none) for none in ("", "00-1", text.replace("b7ad6b7169203331", "0" * 16))] == [None] * 3
