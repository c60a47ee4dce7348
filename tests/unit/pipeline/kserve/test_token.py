"""What a bearer token may be."""

from __future__ import annotations

import re

import pytest

from pipeline.kserve.token import why_no_token


def test_a_token_is_printable_ascii() -> None:
    assert why_no_token("aZ09-._~+/=!") == ""


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "an empty string"),
        ("secret\n", "a line break at character 7"),
        ("sec ret", r"U\+0020 at character 4"),
        ("sécret", r"U\+00E9 at character 2"),
        (b"secret", "expected a string, found bytes"),
    ],
)
def test_what_cannot_travel_is_named_and_the_token_is_not_repeated(token: object, why: str) -> None:
    found = why_no_token(token)
    assert re.search(why, found)
    assert "secret" not in found
