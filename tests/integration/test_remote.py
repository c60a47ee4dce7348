"""A server of KServe v2 behind the interface of every manager: the same calls, answers and errors as on this host."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import yaml

import pipeline
from pipeline import errors
from pipeline.client.result import Result
from tests.integration.gateways import Gateway, Http, serving
from tests.integration.remote_stages import LARGE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = ("local", "connect", "grpc", "shared", "http", "json")
REMOTE = NAMES[2:]
PREFIX = f"/test-remote-{os.getpid()}-"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    shutil.copy(HERE / "remote_stages.py", folder)
    stage = {"name": "s", "batch": {"max_size": 4, "max_delay_ms": 1}}
    inputs = [
        {"name": "order", "dtype": "int32", "shape": [1]},
        {"name": "large", "dtype": "float32", "shape": list(LARGE)},
        {"name": "half", "dtype": "bfloat16", "shape": [3]},
        {"name": "texts", "dtype": "bytes", "shape": ["n"], "max": {"n": 8, "bytes": 4096}},
        {"name": "page", "dtype": "uint8", "shape": ["H", "W"], "max": {"H": 16, "W": 16}},
        {"name": "document", "dtype": "json", "shape": ["bytes"], "max": {"bytes": 4096}},
    ]
    things = {
        "name": "things", "inputs": inputs, "stages": [{**stage, "use": "./remote_stages.py:Things"}],
        "serve": {"batched": True, "max_batch_size": 3, "shared_memory": [PREFIX]},
    }  # fmt: skip
    count = {
        "name": "count", "inputs": [{"name": "most", "dtype": "int32", "shape": [1]}],
        "stages": [{"name": "s", "use": "./remote_stages.py:Count"}],
    }  # fmt: skip
    for config in (things, count):
        (folder / f"{config['name']}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    configs = (folder / "things.yaml", folder / "count.yaml", ROOT / "configs/mnist.yaml")
    with serving(*configs, errors=folder / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def here(gateway: Gateway, folder: Path) -> Iterator[dict[str, Any]]:
    """The managers of this host, which have a connection to each model from here on."""
    configs = [str(folder / "things.yaml"), str(folder / "count.yaml"), str(ROOT / "configs/mnist.yaml")]
    with pipeline.InferenceManager(*configs) as local, pipeline.connect() as others:
        for manager in (local, others):
            for name in manager.get_models():
                manager.infer_runner(name)
        yield {"local": local, "connect": others}


@pytest.fixture
def ways(gateway: Gateway, here: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A manager for each way to ask the same models. After each test nothing is left of those of the server."""
    rpc = f"grpc://{gateway.grpc}"
    with ExitStack() as stack:
        yield {
            **here,
            "grpc": stack.enter_context(pipeline.RemoteInferenceManager(rpc, shared_memory=None)),
            "shared": stack.enter_context(pipeline.RemoteInferenceManager(rpc, shared_memory=PREFIX)),
            "http": stack.enter_context(pipeline.RemoteInferenceManager(gateway.url)),
            "json": stack.enter_context(pipeline.RemoteInferenceManager(gateway.url, binary=False)),
        }


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest, ways: dict[str, Any]) -> Any:
    return ways[request.param]


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, ways: dict[str, Any]) -> pipeline.RemoteInferenceManager:
    found: pipeline.RemoteInferenceManager = ways[request.param]
    return found


def things(rows: int = 0, order: int = 0) -> dict[str, Any]:
    """Inputs of one request, or of a batch."""
    lead = (rows,) if rows else ()
    random = np.random.default_rng(7)
    document = {"a": [1, None, "ä"]}
    texts = np.empty((*lead, 2), object)
    texts[...] = b"a\0b"
    return {
        "order": np.full((*lead, 1), order, np.int32),
        "large": random.random((*lead, *LARGE)).astype(np.float32),
        "half": np.arange(3 * max(rows, 1)).reshape(*lead, 3).astype(ml_dtypes.bfloat16),
        "texts": texts,
        "page": np.arange(6 * max(rows, 1), dtype=np.uint8).reshape(*lead, 2, 3),
        "document": [document] * rows if rows else document,
    }


def plain(result: Result) -> dict[str, Any]:
    """A result as lists, to compare."""
    return {name: _plain(value) for name, value in result.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list) else value


def test_the_snippet_of_the_readme_is_the_same_in_every_way(way: Any, ways: dict[str, Any]) -> None:
    assert "mnist" in way.get_models()
    mnist = way.infer_runner("mnist")
    assert mnist.input_bindings() == {"Input3": (1, 28, 28)}
    assert mnist.output_bindings() == {"Plus214_Output_0": (10,)}
    array = np.random.default_rng(3).random((1, 28, 28)).astype("float32")
    result = mnist.infer(Input3=array).get(timeout=200)
    expected = ways["local"].infer_runner("mnist").infer(Input3=array).get(timeout=200)
    np.testing.assert_allclose(result["Plus214_Output_0"], expected["Plus214_Output_0"], rtol=1e-5)
    assert list(result) == ["Plus214_Output_0"]


def test_what_a_model_takes_and_gives_is_the_same(way: Any, ways: dict[str, Any]) -> None:
    runner, local = way.infer_runner("things"), ways["local"].infer_runner("things")
    assert runner.input_specs() == local.input_specs()
    assert runner.output_specs() == local.output_specs()


@pytest.mark.parametrize("rows", [0, 1, 3, 7])
def test_every_kind_of_tensor_comes_back_in_every_way(
    ways: dict[str, Any], rows: int, request: pytest.FixtureRequest
) -> None:
    given = things(rows)
    expected = plain(ways["local"].infer_runner("things").infer(given).get(timeout=200))
    for name in ("connect", "grpc", "shared", "http"):
        assert plain(ways[name].infer_runner("things").infer(given).get(timeout=200)) == expected, name


def test_what_json_cannot_carry_is_refused_before_or_after_it_is_sent(ways: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match="BF16 data via JSON is not supported"):
        ways["json"].infer_runner("things").infer(things())


MISTAKES: dict[str, Callable[[], dict[str, Any]]] = {
    "another dtype": lambda: {**things(), "large": np.zeros(LARGE)},
    "another shape": lambda: {**things(), "large": np.zeros((1, 2), np.float32)},
    "rows that differ": lambda: {**things(3), "order": np.zeros((2, 1), np.int32)},
    "an unknown name": lambda: {**things(), "lagre": np.zeros(LARGE, np.float32)},
    "what is too much": lambda: {**things(), "page": np.zeros((17, 1), np.uint8)},
    "refused by the stage": lambda: things(order=1),
    "a stage that fails": lambda: things(order=2),
    "refused in a batch": lambda: {**things(7), "order": np.array([[0]] * 5 + [[1]] + [[0]], np.int32)},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_same_mistake_is_the_same_error_in_every_way(ways: dict[str, Any], mistake: str) -> None:
    found = {}
    for name in ("local", "connect", "grpc", "shared", "http"):
        with pytest.raises(errors.RequestError) as raised:
            ways[name].infer_runner("things").infer(MISTAKES[mistake]()).get(timeout=200)
        found[name] = type(raised.value), str(raised.value)
    assert set(found.values()) == {found["local"]}


@pytest.mark.parametrize(
    "given",
    [
        {"Input3": np.zeros((1, 28, 28))},
        {"Input3": np.zeros((28, 28), np.float32)},
        {"Input3": np.zeros((2, 1, 28, 27), np.float32)},
        {"Input4": np.zeros((1, 28, 28), np.float32)},
        {},
    ],
    ids=["another dtype", "another shape", "another shape in a batch", "an unknown name", "no input"],
)
def test_a_mistake_in_the_snippet_is_the_same_error_in_every_way(ways: dict[str, Any], given: dict[str, Any]) -> None:
    found = set()
    for manager in ways.values():
        with pytest.raises(errors.InvalidRequest) as raised:
            manager.infer_runner("mnist").infer(given)
        found.add(str(raised.value))
    assert len(found) == 1, found


def test_a_deadline_and_a_cancellation_are_the_same_in_every_way(way: Any, ways: dict[str, Any]) -> None:
    if way is ways["json"]:
        pytest.skip("JSON has no BF16")
    runner = way.infer_runner("things")
    with pytest.raises(errors.DeadlineExceeded):
        runner.infer(things(order=3), deadline_ms=100).get(timeout=200)
    future = runner.infer(things(order=3))
    assert future.cancel()
    with pytest.raises(errors.Cancelled):
        future.get(timeout=200)


def test_a_future_is_one_of_concurrent_futures(way: Any) -> None:
    mnist = way.infer_runner("mnist")
    array = np.zeros((1, 28, 28), np.float32)
    told: list[Any] = []
    futures = mnist.infer_many([{"Input3": array}] * 5)
    for future in futures:
        future.add_done_callback(told.append)
    done, rest = concurrent.futures.wait(futures, timeout=200)
    assert (len(done), rest) == (5, set())
    assert set(concurrent.futures.as_completed(futures, timeout=200)) == set(futures)
    assert {len(future.get()["Plus214_Output_0"]) for future in futures} == {10}
    assert set(told) == set(futures)
    assert len(asyncio.run(_await(futures[0]))["Plus214_Output_0"]) == 10


async def _await(future: Any) -> Any:
    return await future


def test_an_answer_in_parts_comes_in_parts(ways: dict[str, Any]) -> None:
    for name in ("local", "grpc"):
        runner = ways[name].infer_runner("count")
        assert [part["number"].tolist() for part in runner.stream(most=np.array([4], np.int32))] == [[0], [1], [2], [3]]
        parts = runner.stream(most=np.array([9], np.int32))
        assert [next(parts).part for _ in range(7)] == [0, 1, 2, 3, 4, 5, 6]
        with pytest.raises(errors.StageFailed, match="seven"):
            next(parts)
        with pytest.raises(errors.ClientMisuse, match="parts"):
            runner.infer(most=np.array([2], np.int32)).get(timeout=200)
    with pytest.raises(errors.InvalidRequest, match="use grpc://"):
        next(ways["http"].infer_runner("count").stream(most=np.array([4], np.int32)))


def test_which_transport_it_is_and_why_no_faster_one(ways: dict[str, Any]) -> None:
    whys = {name: ways[name].why() for name in REMOTE}
    assert "gRPC; no shared memory: this program does not want any" in whys["grpc"]
    assert "gRPC, with large tensors in shared memory" in whys["shared"]
    assert "HTTP, binary; gRPC is faster" in whys["http"]
    assert "HTTP, JSON; this program wants it so (binary=False)" in whys["json"]


def test_large_tensors_travel_in_regions_that_are_used_again_and_leave_nothing(gateway: Gateway) -> None:
    with pipeline.RemoteInferenceManager(f"grpc://{gateway.grpc}", shared_memory=PREFIX) as manager:
        runner = manager.infer_runner("things")
        for _ in range(5):
            runner.infer(things()).get(timeout=200)
        assert runner.copied["shared memory"] == 5 * 4 * LARGE[0] * LARGE[1]
        assert len(Http(gateway).get("/v2/systemsharedmemory/status")) == 1
        # Only the server and this process have it: it has no name.
        assert not list(Path("/dev/shm").glob(f"{PREFIX[1:]}*"))
    assert Http(gateway).get("/v2/systemsharedmemory/status") == []


def test_a_prefix_that_the_server_does_not_take_is_told(gateway: Gateway) -> None:
    with pipeline.RemoteInferenceManager(f"grpc://{gateway.grpc}", shared_memory="/other-") as manager:
        runner = manager.infer_runner("things")
        assert runner.infer(things()).get(timeout=200)["large"].shape == LARGE
        assert f"this server takes keys that begin with {PREFIX}" in manager.why()


def test_a_killed_client_leaves_neither_memory_nor_a_region(gateway: Gateway) -> None:
    code = (
        "import os, signal, sys, numpy as np, pipeline\n"
        "from tests.integration.test_remote import things\n"
        f"manager = pipeline.RemoteInferenceManager('grpc://{gateway.grpc}', shared_memory={PREFIX!r})\n"
        "manager.infer_runner('things').infer(things()).get(timeout=200)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    client = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert client.returncode == -signal.SIGKILL
    end = time.monotonic() + 200
    while Http(gateway).get("/v2/systemsharedmemory/status"):
        assert time.monotonic() < end, "the region is still registered"
        time.sleep(0.05)
    assert not list(Path("/dev/shm").glob(f"{PREFIX[1:]}*"))


def test_a_model_that_is_not_there_and_what_belongs_to_the_server(remote: pipeline.RemoteInferenceManager) -> None:
    with pytest.raises(errors.Unavailable, match=r"no model 'mnits' that is ready.*did you mean mnist"):
        remote.infer_runner("mnits")
    calls = (
        lambda: remote.load("a.yaml"), lambda: remote.unload("mnist"), lambda: remote.reload("mnist"), remote.serve,
    )  # fmt: skip
    for call in calls:
        with pytest.raises(errors.ClientMisuse, match="asks the models of a server"):
            call()
    assert remote.status()["mnist"]["state"] == "ready"


def test_after_stop_every_call_says_so(gateway: Gateway) -> None:
    manager = pipeline.RemoteInferenceManager(gateway.url)
    runner = manager.infer_runner("mnist")
    manager.stop()
    manager.stop()
    for call in (lambda: runner.infer(Input3=np.zeros((1, 28, 28), np.float32)), manager.get_models, runner.ready):
        with pytest.raises(errors.ClientMisuse, match="stopped"):
            call()


def test_in_an_asyncio_loop_it_is_the_same(gateway: Gateway, run: Callable[[Any], Any]) -> None:
    async def main(url: str) -> None:
        # Fewer at one time than there are tasks.
        async with pipeline.AsyncRemoteInferenceManager(url, pending=3, shared_memory=PREFIX) as manager:
            assert manager.get_models() == ["count", "mnist", "things"]
            runner = manager.infer_runner("things")
            # Known since it connected: nothing is asked in the loop.
            assert set(runner.input_bindings()) == set(things())
            absent = manager.infer_runner("mnits")
            with pytest.raises(errors.ClientMisuse, match=r"not known yet.*await the runner's ready"):
                absent.input_bindings()
            with pytest.raises(errors.Unavailable, match="did you mean mnist"):
                await absent.infer(Input3=np.zeros((1, 28, 28), np.float32))
            other = manager.infer_runner("mnist", version="1")
            await other.ready()
            assert other.input_bindings() == {"Input3": (1, 28, 28)}
            with pytest.raises(errors.ClientMisuse, match="asks the models of a server"):
                await manager.serve()
            assert (await runner.infer(things(7)))["large"].shape == (7, *LARGE)
            results = await asyncio.gather(*[runner.infer(things()) for _ in range(10)])
            assert len(results) == 10
            futures = await runner.infer_many([things() for _ in range(5)])
            assert len([await future for future in futures]) == 5
            with pytest.raises(errors.BadInput, match="told to refuse"):
                await runner.infer(things(order=1))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(runner.infer(things(order=3)), 0.1)
            with pytest.raises(errors.Overloaded):
                await runner.infer(things(13), block=False)
            assert (await manager.status())["things"]["state"] == "ready"
            if url.startswith("grpc"):
                parts = manager.infer_runner("count").stream(most=np.array([3], np.int32))
                assert [part["number"].tolist() async for part in parts] == [[0], [1], [2]]

    for url in (f"grpc://{gateway.grpc}", gateway.url):
        run(main(url))
