"""What tests with real processes share: a user's folder with stages and configs of their own."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
import yaml

from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.testing import RunningPipeline, running
from tests.integration.browsers import browsers
from tests.links import LINK

HERE = Path(__file__).parent

class Folder:
    """A user's folder: sample_stages.py, and configs over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copy(HERE / "sample_stages.py", path)

    def config(self, *stages: dict[str, Any], name: str = "sample", **fields: Any) -> Path:
        """A chain of stages, of the class Work unless they name another one; bytes in, the same bytes out."""
        document = {
            "inputs": [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}],
            "stages": [{"name": f"s{i}", "use": "./sample_stages.py:Work", **stage} for i, stage in enumerate(stages)],
            **LINK,
            **fields,
        }
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def file(self, name: str, data: bytes = b"some bytes") -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def files(self, count: int, data: bytes = b"some bytes") -> list[Path]:
        return [self.file(f"files/{number:04}.bin", data) for number in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def children_of() -> Callable[[int], dict[str, psutil.Process]]:
    """The children of a supervisor, by their names in `ps`."""

    def children_of(pid: int) -> dict[str, psutil.Process]:
        found = {}
        for child in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):
                found[" ".join(child.cmdline()).strip()] = child
        return found

    return children_of


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.foreign)])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Runs a coroutine in a loop of that kind. What the loop would only log fails the test."""

    def run(main: Any) -> Any:
        async def checked() -> Any:
            complaints: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            result = await main
            gc.collect()
            await asyncio.sleep(0)
            assert complaints == []
            return result

        loop = uvloop.new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
        try:
            return loop.run_until_complete(checked())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run


# -- of clients that threads share -------------------------------------------------------------------


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    """A pipeline that answers with what it was sent; a second later if that is b"slow"; it refuses b"poison"."""
    folder = Folder(tmp_path_factory.mktemp("echo"))
    with running(folder.config({"with": {"how": "bad_input"}, "replicas": 2})) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    """As `echo`, with 20 ms for each request."""
    folder = Folder(tmp_path_factory.mktemp("late"))
    with running(folder.config({"with": {"seconds": 0.02, "how": "bad_input"}}, name="late")) as pipeline:
        yield pipeline


@pytest.fixture
def client(echo: RunningPipeline, request: pytest.FixtureRequest) -> Iterator[SharedClient]:
    with SharedClient.connect(echo.run_dir, name="me") as client:
        yield client
    # Otherwise pytest keeps it for longer than `_nothing_is_left_behind` waits.
    request.node.funcargs.clear()


@pytest.fixture
def runner(client: SharedClient) -> InferRunner:
    return InferRunner(client)


@pytest.fixture(scope="module")
def start_chromium() -> Iterator[Callable[[], Any]]:
    with browsers() as start:
        yield start


@pytest.fixture
def chromium(start_chromium: Callable[[], Any]) -> Iterator[Any]:
    """One for each test: it starts and ends processes of its own as it likes."""
    found = start_chromium()
    yield found
    found.close()
