from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pipeline.worker.debugging import NoDebugger, refuse_breakpoints


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sys.breakpointhook
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    refuse_breakpoints()
    yield
    sys.breakpointhook = before


def test_a_breakpoint_says_where_one_works() -> None:
    with pytest.raises(NoDebugger, match="pipeline run --in-process CONFIG FILE"):
        breakpoint()


def test_a_debugger_of_the_users_choice_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    breakpoint()
    called: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "debugger", called.append, raising=False)
    monkeypatch.setitem(sys.modules, "my_debugger", sys.modules[__name__])
    monkeypatch.setenv("PYTHONBREAKPOINT", "my_debugger.debugger")
    breakpoint("here")
    assert called == ["here"]
