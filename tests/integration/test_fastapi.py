"""The example for FastAPI, under uvicorn in a process of its own: its answers, and clients that hang up."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pipeline.testing import RunningPipeline, running

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
SEVEN = (ROOT / "photos/digits/7.png").read_bytes()


@pytest.fixture(scope="module")
def digits() -> Iterator[RunningPipeline]:
    with running(ROOT / "configs/digits.yaml") as pipeline:
        yield pipeline


@pytest.fixture
def server(digits: RunningPipeline, tmp_path: Path) -> Iterator[str]:
    """The path of its unix socket."""
    socket = tmp_path / "web.sock"
    command = [sys.executable, "-m", "uvicorn", "tests.integration.fastapi_probe:app", "--uds", str(socket)]
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT, stdout=file, stderr=file)
    try:
        while not socket.exists():
            assert process.poll() is None, log.read_text()
            process_wait(process, 0.02)
        yield str(socket)
    finally:
        process.send_signal(signal.SIGTERM)
        process_wait(process, 20)
        process.kill()
        process.wait()
    assert log.read_text() == ""


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def web(socket: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
    return httpx.AsyncClient(transport=transport, base_url="http://web", timeout=200)


async def ask(client: httpx.AsyncClient, picture: bytes = SEVEN, **query: Any) -> httpx.Response:
    return await client.post("/digits", files={"image": ("7.png", picture)}, params=query)


async def until(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.02)


def of_web(pipeline: RunningPipeline) -> dict[str, Any]:
    (client,) = [each for each in pipeline.status()["clients"] if each["name"] == "web"]
    return client


def slots_are_back(pipeline: RunningPipeline) -> bool:
    """Whether the web's client has nothing under way and holds no slot, but the one that an idle client may keep."""
    client, (ingress, *others) = of_web(pipeline), pipeline.status()["pools"]
    return (
        client["requests"] == client["borrowed"] == 0
        and client["granted"] <= 1
        and ingress["free"] >= ingress["slots"] - 1
        and all(pool["free"] == pool["slots"] for pool in others)
    )


class Stopped:
    """The inference workers do not run within this block: what is asked stays under way."""

    def __init__(self, pipeline: RunningPipeline) -> None:
        self._workers = [psutil.Process(pid) for pid in pipeline.worker_pids("inference")]

    def __enter__(self) -> None:
        for worker in self._workers:
            worker.suspend()

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.resume()


def test_a_picture_is_answered_and_each_failure_has_its_status(digits: RunningPipeline, server: str) -> None:
    async def main() -> None:
        async with web(server) as client:
            answer = await ask(client)
            assert answer.status_code == 200
            assert answer.json()["labels"][0] == "7"
            answer = await ask(client, b"no picture")
            assert (answer.status_code, answer.json()["error"]) == (422, "BadInput")
            answer = await ask(client, bytes(70_000))
            assert answer.status_code == 413
            answer = await ask(client, deadline_ms=-1)
            assert (answer.status_code, answer.json()["error"]) == (422, "InvalidRequest")
            assert (await client.get("/models")).json()["digits"]["state"] == "ready"
            with Stopped(digits):
                answer = await ask(client, deadline_ms=50)
                assert (answer.status_code, answer.json()["error"]) == (504, "DeadlineExceeded")

    asyncio.run(main())


def test_what_is_too_much_is_refused_and_the_rest_is_answered(digits: RunningPipeline, server: str) -> None:
    async def main() -> None:
        async with web(server) as client:
            with Stopped(digits):
                tasks = [asyncio.create_task(ask(client, deadline_ms=60_000)) for _ in range(300)]
                refused, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                answer = refused.pop().result()
                assert (answer.status_code, answer.json()["error"]) == (429, "Overloaded")
                assert answer.headers["Retry-After"] == "1"
            codes = [(await task).status_code for task in tasks]
            assert set(codes) == {200, 429}
            assert codes.count(200) >= 64
        await until(lambda: asyncio.to_thread(slots_are_back, digits))

    asyncio.run(main())


def test_a_client_that_hangs_up_cancels_its_request(digits: RunningPipeline, server: str) -> None:
    async def main() -> None:
        async with web(server) as client:
            await ask(client)
            before = (await client.get("/probe")).json()
            with Stopped(digits):
                tasks = [asyncio.create_task(ask(client, deadline_ms=60_000)) for _ in range(20)]

                async def outstanding(count: int) -> bool:
                    return (await client.get("/probe")).json()["requests"] == count

                await until(lambda: outstanding(20))
                for task in tasks[5:]:
                    task.cancel()
                await asyncio.gather(*tasks[5:], return_exceptions=True)
                # Before the worker has done anything for them.
                await until(lambda: outstanding(5))
                await until(lambda: asyncio.to_thread(lambda: of_web(digits)["requests"] == 5))
            for task in tasks[:5]:
                assert (await task).json()["labels"][0] == "7"
            await until(lambda: asyncio.to_thread(slots_are_back, digits))
            after = (await client.get("/probe")).json()
            assert (after["requests"], after["tasks"]) == (0, before["tasks"])

    asyncio.run(main())


def test_under_load_with_clients_that_hang_up_in_the_middle_nothing_is_left(
    digits: RunningPipeline, server: str
) -> None:
    chance = random.Random(1)

    async def one(client: httpx.AsyncClient) -> str:
        if chance.random() < 0.5:
            return (await ask(client)).json()["labels"][0]
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ask(client), chance.uniform(0.001, 0.2))
        return "7"

    async def many(socket: str, count: int) -> None:
        async with web(socket) as client:
            for _ in range(count):
                assert await one(client) == "7"

    async def main() -> None:
        async with web(server) as client:
            await ask(client)
            before = (await client.get("/probe")).json()
            await asyncio.gather(*[many(server, 12) for _ in range(24)])

            async def quiet() -> bool:
                now = (await client.get("/probe")).json()
                return now["requests"] == 0 and now["tasks"] <= before["tasks"] and (
                    now["descriptors"] <= before["descriptors"]
                )

            await until(quiet)
            await until(lambda: asyncio.to_thread(slots_are_back, digits))
            assert (await ask(client)).json()["labels"][0] == "7"

    asyncio.run(main())


def test_without_its_pipeline_the_service_says_so_and_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of an update: the service is never restarted."""
    socket = tmp_path / "web.sock"
    # No other pipeline of the name is in there.
    home = tempfile.mkdtemp(prefix="trt-", dir="/tmp")
    monkeypatch.setenv("TRTLAB_RUN_DIR", home)
    command = [sys.executable, "-m", "uvicorn", "tests.integration.fastapi_probe:app", "--uds", str(socket)]
    with running(ROOT / "configs/digits.yaml"):
        process = subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT)
        while not socket.exists():
            assert process.poll() is None
            process_wait(process, 0.02)

    async def answer(**query: Any) -> httpx.Response:
        async with web(str(socket)) as client:
            return await ask(client, **query)

    try:
        # Not a 504: the deadline of the example is longer than its patience.
        refused = asyncio.run(answer())
        assert (refused.status_code, refused.json()["error"]) == (503, "Unavailable")
        assert "no pipeline 'digits' is running here" in refused.json()["detail"]
        with running(ROOT / "configs/digits.yaml"):
            assert asyncio.run(answer(deadline_ms=30_000)).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) in (0, -signal.SIGTERM)
        shutil.rmtree(home)
