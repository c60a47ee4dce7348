"""`manager.serve(...)`: gateways in front of a manager, whatever kind it is, and all the ways in which they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

import pipeline
from pipeline.errors import ClientMisuse, InvalidRequest, StartError, Unavailable
from pipeline.repository.server import Server
from tests.faults.load import until
from tests.integration.conftest import Folder

ANY: Any = {"grpc_port": 0, "metrics_port": 0}

SERVES = """
import sys
import pipeline

with pipeline.InferenceManager(sys.argv[1]) as manager:
    server = manager.serve(0, grpc_port=0, metrics_port=0)
    print("after it:", manager.get_models(), server.serves, flush=True)
"""


def asked(server: Server, model: str, data: bytes = b"abc", **options: Any) -> bytes:
    """The answer of a model, over gRPC."""
    with pipeline.RemoteInferenceManager(server.grpc_url, **options) as far:
        return bytes(far.infer_runner(model).infer(data=np.frombuffer(data, np.uint8)).get(timeout=200)["data"])


def models(server: Server, token: str = "") -> list[str]:
    """Those that can be asked, over HTTP."""
    headers = {"Authorization": f"Bearer {token}"}
    entries = httpx.post(f"{server.url}/v2/repository/index", json={"ready": True}, headers=headers).json()
    return sorted(entry["name"] for entry in entries)


def first(manager: Any, meant: Callable[[Server], bool]) -> Server:
    """The first server of an asyncio loop's manager that is so, once there is one."""
    until(lambda: any(map(meant, manager._models._servers)))
    return next(filter(meant, manager._models._servers))


def test_a_manager_serves_what_it_has_loads_and_unloads_until_it_stops(folder: Folder) -> None:
    (folder.path / "token").write_text("secret")
    first = folder.config({}, name="first", serve={"token_file": "token"})
    second = folder.config({}, name="second")
    with pipeline.InferenceManager(first) as manager:
        server = manager.serve(0, **ANY, block=False)
        try:
            assert server.serves
            assert 0 not in (server.port, server.grpc_port, server.metrics_port)
            # What the config says holds here too.
            with pytest.raises(InvalidRequest, match="token"):
                asked(server, "first")
            assert asked(server, "first", token="secret") == b"abc"
            manager.load(second)
            until(lambda: models(server, "secret") == ["first", "second"])
            assert asked(server, "second", token="secret") == b"abc"
            manager.unload("second")
            until(lambda: models(server, "secret") == ["first"])
            # Started anew, in another folder.
            os.kill(manager.status()["first"]["pid"], signal.SIGKILL)
            until(lambda: manager.status()["first"]["state"] == "died")
            manager.reload("first")
            until(lambda: models(server, "secret") == ["first"])
            assert asked(server, "first", token="secret") == b"abc"
            with pytest.raises(StartError, match=f"127.0.0.1:{server.port} cannot be had"):
                manager.serve(server.port, **ANY, block=False)
            # What is under way at the end is answered.
            answers: list[bytes] = []
            caller = threading.Thread(target=lambda: answers.append(asked(server, "first", b"slow", token="secret")))
            caller.start()
            until(lambda: manager.status()["first"]["pipeline"]["inside"])
        finally:
            manager.stop()
        caller.join()
        assert answers == [b"slow"]
    assert not server.serves
    assert repr(server).endswith("which has ended>")
    server.close()
    with pytest.raises(ClientMisuse, match="this manager was stopped"):
        manager.serve(0, **ANY)


@pytest.mark.foreign
def test_a_gateway_that_was_killed_is_told_and_the_manager_goes_on(folder: Folder) -> None:
    with pipeline.InferenceManager(folder.config({})) as manager:
        server = manager.serve(0, **ANY, block=False)
        with pytest.raises(TimeoutError, match="the gateway still runs"):
            server.wait(0.01)
        processes = psutil.Process(server._process.pid).children()
        server._process._process.kill()
        with pytest.raises(Unavailable, match=r"the gateway has died \(killed by signal 9"):
            server.wait(200)
        assert psutil.wait_procs(processes, 20)[1] == []
        assert bytes(manager.infer_runner("sample").infer(data=b"x").get(timeout=200)["data"]) == b"x"

        # A manager that is connected to it serves it too, and so does one of a loop.
        async def main() -> None:
            async with pipeline.connect_async("sample") as others:
                async with await others.serve(0, **ANY, block=False) as server:
                    assert await asyncio.to_thread(asked, server, "sample") == b"abc"
                assert not server.serves
                # Until its task is cancelled: while it starts, or while it serves.
                for meant in (lambda server: not server.ended, lambda server: server.serves):
                    serving = asyncio.create_task(others.serve(0, **ANY))
                    server = await asyncio.to_thread(first, others, meant)
                    serving.cancel()
                    with suppress(asyncio.CancelledError):
                        await serving
                    assert server.ended
                assert others.get_models() == ["sample"]

        asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.foreign)])
def test_in_the_main_thread_it_serves_until_a_signal_and_the_program_goes_on(
    folder: Folder, number: signal.Signals, tmp_path: Path
) -> None:
    errors = tmp_path / "errors"
    with errors.open("wb") as file:
        program = subprocess.Popen(
            [sys.executable, "-c", SERVES, str(folder.config({}))], stdout=subprocess.PIPE, stderr=file
        )
    assert program.stdout is not None
    try:
        until(lambda: b"serving sample on http://127.0.0.1:" in errors.read_bytes())
        program.send_signal(number)
        assert program.stdout.read() == b"after it: ['sample'] False\n"
        assert program.wait(200) == 0, errors.read_text()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
