"""`connect_async` before it is awaited: what a program that forgets that is told."""

from __future__ import annotations

import copy

import pytest

import pipeline
from pipeline.errors import ClientMisuse


@pytest.mark.parametrize("call", ["infer_runner", "get_models", "status", "close"])
def test_a_connection_that_was_not_awaited_says_what_to_write(call: str) -> None:
    connecting = pipeline.connect_async("digits")
    with pytest.raises(ClientMisuse, match=r"was not awaited: write `async with pipeline\.connect_async"):
        getattr(connecting, call)


def test_neither_is_it_entered_without_async() -> None:
    with pytest.raises(ClientMisuse, match="was not awaited"), pipeline.connect_async("digits"):
        pass


def test_what_no_manager_has_is_missing_as_anywhere() -> None:
    connecting = pipeline.connect_async("digits")
    assert not hasattr(connecting, "infer_runners")
    # Python itself looks for such names.
    assert copy.copy(connecting) is not connecting
