"""Memory that several engines of one process read is pinned once, until the last of them lets go. Needs no GPU."""

from __future__ import annotations

from typing import Any

import pytest

from stages.engines.cuda import Device


def device(calls: list[str]) -> Device:
    """One whose driver only notes what it is asked for."""

    def driver(name: str, *arguments: Any) -> None:
        calls.append(name)

    made = object.__new__(Device)
    made._driver = driver  # type: ignore[assignment]
    made._registered = {}
    return made


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_what_two_engines_read_is_pinned_once_and_let_go_once(first_leaves_first: bool) -> None:
    calls: list[str] = []
    shared, own = memoryview(bytearray(4096)), memoryview(bytearray(64))
    one, other = device(calls), device(calls)
    one.register(shared)
    other.register(shared)
    other.register(own)
    assert calls == ["cuMemHostRegister_v2"] * 2
    assert (one.registered_bytes, other.registered_bytes) == (4096, 4096 + 64)
    first, last = (one, other) if first_leaves_first else (other, one)
    first.unregister_all()
    let_go = 0 if first_leaves_first else 1
    assert calls[2:] == ["cuMemHostUnregister"] * let_go
    last.unregister_all()
    assert calls[2:] == ["cuMemHostUnregister"] * 2
    # And anew, after all of that.
    one.register(shared)
    assert calls[4:] == ["cuMemHostRegister_v2"]
    one.unregister_all()


def test_what_is_shown_twice_to_one_engine_is_pinned_once() -> None:
    calls: list[str] = []
    memory = memoryview(bytearray(4096))
    one = device(calls)
    one.register(memory)
    one.register(memory)
    one.unregister_all()
    assert calls == ["cuMemHostRegister_v2", "cuMemHostUnregister"]
