"""The process `pipeline serve`, as far as it is not what its gateways and pipelines do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.keeping import keeper as module
from pipeline.keeping.keeper import Keeper
from pipeline.logs.log import OperatorLog
from pipeline.serving.settings import Settings


def test_the_keeper_loads_no_server_so_that_the_command_line_needs_no_extra() -> None:
    code = (
        "import pipeline.keeping.keeper, pipeline.cli.serve, sys; "
        "print(*[name for name in ('grpc', 'uvicorn', 'starlette', 'h11') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_a_look_at_the_models_that_fails_is_told_once_and_is_not_the_last_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    looks = 0

    async def watch() -> list[Any]:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise OSError(24, "Too many open files")
        keeper._stop.set()
        return []

    async def look() -> None:
        keeper._stop = asyncio.Event()
        await asyncio.wait_for(keeper._watch_models(), 30)

    keeper = Keeper(Settings(), lambda **_: SimpleNamespace(watch=watch), log=OperatorLog(process="serve"))
    asyncio.run(look())
    assert looks == 4
    said = capfd.readouterr().err
    assert said.count("error: the models cannot be looked after: [Errno 24] Too many open files") == 1
    assert said.count("Traceback") == 1
