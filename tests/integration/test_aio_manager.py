"""`pipeline.connect_async`: the models of this host, in an asyncio loop."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.errors import ClientMisuse, Unavailable
from pipeline.repository.aio import AsyncInferenceManager
from pipeline.testing import RunningPipeline, running
from tests.integration.conftest import Folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningPipeline]]:
    """Two of them, "first" and "second"."""
    folder = Folder(tmp_path_factory.mktemp("models"))
    with running(folder.config({}, name="first")) as first, running(folder.config({}, name="second")) as second:
        yield [first, second]


def test_a_model_is_asked_by_its_name(models: list[RunningPipeline]) -> None:
    async def main() -> None:
        async with pipeline.connect_async("first") as manager:
            assert isinstance(manager, AsyncInferenceManager)
            assert manager.get_models() == ["first"]
            runner = manager.infer_runner("first")
            assert runner.input_bindings() == {"data": ("bytes",)}
            result = await runner.infer(data=np.arange(4, dtype=np.uint8))
            assert result["data"].tolist() == [0, 1, 2, 3]
            # All runners of a model share one client.
            assert manager.infer_runner("first")._client is runner._client
            assert (await manager.status())["first"]["state"] == "ready"
            with pytest.raises(Unavailable, match=r"no model 'fist' runs here.*first"):
                manager.infer_runner("fist")
        for call in (manager.get_models, lambda: manager.infer_runner("first")):
            with pytest.raises(ClientMisuse, match="stopped"):
                call()
        with pytest.raises(ClientMisuse, match="closed"):
            await runner.infer(data=b"some")
        await manager.close()

    asyncio.run(main())


def test_without_a_name_all_models_of_the_host_are_there(models: list[RunningPipeline]) -> None:
    async def main() -> None:
        manager = await pipeline.connect_async()
        try:
            assert manager.get_models() == ["first", "second"]
            runners = [manager.infer_runner(name) for name in manager.get_models()]
            assert [runner.interface.name for runner in runners] == ["first", "second"]
            results = await asyncio.gather(*[runner.infer(data=b"some") for runner in runners])
            assert [bytes(result["data"]) for result in results] == [b"some", b"some"]
        finally:
            await manager.close()

    asyncio.run(main())


def test_a_run_is_asked_by_its_folder(models: list[RunningPipeline]) -> None:
    async def main() -> None:
        async with pipeline.connect_async(models[1].run_dir) as manager:
            assert manager.get_models() == ["second"]
            await manager.infer_runner("second").infer(data=b"some")

    asyncio.run(main())


def test_a_model_that_was_not_there_before_is_known_once_it_is_awaited(
    models: list[RunningPipeline], tmp_path: Any
) -> None:
    async def main() -> None:
        async with pipeline.connect_async() as manager:
            late = running(Folder(tmp_path).config({}, name="late"))
            await asyncio.to_thread(late.__enter__)
            try:
                runner = manager.infer_runner("late")
                with pytest.raises(ClientMisuse, match=r"await ready\(\)"):
                    runner.input_bindings()
                await runner.ready()
                assert list(runner.input_bindings()) == ["data"]
                assert bytes((await runner.infer(data=b"some"))["data"]) == b"some"
            finally:
                await asyncio.to_thread(late.__exit__, None, None, None)

    asyncio.run(main())


def test_a_model_that_does_not_run_is_told(models: list[RunningPipeline]) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable, match="no pipeline 'thrid' is running here"):
            await pipeline.connect_async("thrid")
        with pytest.raises(Unavailable, match="no pipeline 'thrid' is running here"):
            async with pipeline.connect_async("thrid", timeout_s=0.1):
                raise AssertionError

    asyncio.run(main())


def test_a_manager_belongs_to_its_loop_and_its_process(models: list[RunningPipeline]) -> None:
    async def made() -> AsyncInferenceManager:
        return await pipeline.connect_async("first")

    async def used(manager: AsyncInferenceManager) -> None:
        with pytest.raises(ClientMisuse, match="belongs to the asyncio loop"):
            manager.infer_runner("first")

    async def forked() -> None:
        async with pipeline.connect_async("first") as manager:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    manager.infer_runner("first")
                except ClientMisuse as error:
                    code = 0 if "in the child" in str(error) else 2
                finally:
                    os._exit(code)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            with pytest.raises(ClientMisuse, match="cannot be sent"):
                pickle.dumps(manager)

    asyncio.run(used(asyncio.run(made())))
    asyncio.run(forked())


def test_it_works_in_a_loop_that_runs_already_such_as_that_of_a_notebook(models: list[RunningPipeline]) -> None:
    """A notebook runs each cell as a coroutine of one loop that never stops in between."""
    loop = asyncio.new_event_loop()
    cells: dict[str, Any] = {"pipeline": pipeline}
    try:
        for cell in (
            "manager = await pipeline.connect_async('first')",
            "runner = manager.infer_runner('first')",
            "result = await runner.infer(data=b'some')",
            "await manager.close()",
        ):
            body = "async def cell():\n    global manager, runner, result\n    " + cell
            exec(body, cells)
            loop.run_until_complete(cells["cell"]())
        assert bytes(cells["result"]["data"]) == b"some"
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
