"""`pipeline.RemoteInferenceManager` asks servers of others: Triton, KServe and MLServer, as their packages have them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

import pipeline
from bench.versus.environments import KSERVE, MLSERVER, TRITON
from pipeline import errors
from tests.foreign.servers import SOURCES, in_python, triton, triton_models

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).resolve().parents[2]
Environment = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _no_memory_is_left() -> Any:
    before = set(os.listdir("/dev/shm"))
    yield
    # Those of runs have tests of their own, and other tests run beside this one.
    left = {name for name in set(os.listdir("/dev/shm")) - before if not name.startswith("trtlab")}
    assert not {name for name in left if name.startswith(("triton_python_backend", f"remote-{os.getpid()}-"))}
    assert not list(Path("/dev/shm").glob(f"trtlab_versus_{os.getpid()}_*"))


@pytest.mark.parametrize("way", ["shared", "grpc", "http", "json"])
def test_triton(environment: Environment, tmp_path: Path, way: str) -> None:
    environment(TRITON)
    options: dict[str, Any] = {"json": {"binary": False}, "grpc": {"shared_memory": None}}.get(way, {})
    with triton(triton_models(tmp_path)) as server:
        url = f"grpc://{server.grpc}" if way in ("shared", "grpc") else f"http://{server.http}"
        regions = f"http://{server.http}/v2/systemsharedmemory/status"
        with pipeline.RemoteInferenceManager(url, **options) as manager:
            assert manager.get_models() == ["mnist", "twice"]
            runner = manager.infer_runner("twice")
            assert runner.input_bindings() == {"x": (128, 256), "names": ("names_0",)}
            x = np.random.default_rng(1).random((6, 128, 256)).astype(np.float32)
            names = np.full((6, 2), b"a", object)
            result = runner.infer(x=x, names=names).get(timeout=200)
            assert (result["y"] == x * 2).all()
            assert [row.tolist() for row in result["echo"]] == [[b"a", b"a"]] * 6
            assert runner.infer(x=x[0], names=names[0]).get(timeout=200)["y"].shape == (128, 256)
            with pytest.raises(errors.StageFailed, match="told to refuse"):
                runner.infer(x=np.full((128, 256), -1, np.float32), names=names[0]).get(timeout=200)
            with pytest.raises(errors.Unavailable, match=r"no model 'twce'.*did you mean twice"):
                manager.infer_runner("twce")
            if way == "shared":
                assert "large tensors in shared memory" in runner.why()
                assert runner.copied["shared memory"] >= x.nbytes
                assert httpx.get(regions).json()
                manager.stop()
                assert httpx.get(regions).json() == []


MISTAKES: dict[str, dict[str, Any]] = {
    "another dtype": {"Input3": np.zeros((1, 28, 28))},
    "another shape": {"Input3": np.zeros((28, 28), np.float32)},
    "another shape in a batch": {"Input3": np.zeros((3, 1, 28, 27), np.float32)},
    "an unknown name": {"Input4": np.zeros((1, 28, 28), np.float32)},
    "no input": {},
}


def test_the_snippet_of_the_readme_is_the_same_here_and_over_triton(environment: Environment, tmp_path: Path) -> None:
    environment(TRITON)
    with triton(triton_models(tmp_path)) as server, ExitStack() as stack:
        rpc, http = f"grpc://{server.grpc}", f"http://{server.http}"
        local = stack.enter_context(pipeline.InferenceManager(SOURCES / "columns.yaml"))
        ways: dict[str, Any] = {
            "connect": stack.enter_context(pipeline.connect("mnist")),
            "grpc": stack.enter_context(pipeline.RemoteInferenceManager(rpc, shared_memory=None)),
            "shared": stack.enter_context(pipeline.RemoteInferenceManager(rpc)),
            "http": stack.enter_context(pipeline.RemoteInferenceManager(http)),
            "json": stack.enter_context(pipeline.RemoteInferenceManager(http, binary=False)),
        }
        arrays = [np.random.default_rng(3).random((*rows, 1, 28, 28)).astype("float32") for rows in ((), (1,), (40,))]
        refused = arrays[2].copy()
        # The first of a request of Triton's.
        refused[32, 0, 0, 0] = -1
        mnist = local.infer_runner("mnist")
        expected = [mnist.infer(Input3=array).get(timeout=200)["Plus214_Output_0"] for array in arrays]
        for name, manager in ways.items():
            assert "mnist" in manager.get_models(), name
            runner = manager.infer_runner("mnist")
            assert runner.input_bindings() == mnist.input_bindings() == {"Input3": (1, 28, 28)}, name
            assert runner.output_bindings() == mnist.output_bindings() == {"Plus214_Output_0": (10,)}, name
            for array, scores in zip(arrays, expected):
                result = runner.infer(Input3=array).get(timeout=200)
                assert list(result) == ["Plus214_Output_0"]
                np.testing.assert_allclose(result["Plus214_Output_0"], scores, rtol=1e-5, err_msg=name)
            for mistake, given in MISTAKES.items():
                told = [_error(each, given) for each in (mnist, runner)]
                assert told[0] == told[1], (name, mistake)
            for array in (refused[32], refused):
                kinds = [_error(each, {"Input3": array}) for each in (mnist, runner)]
                assert [kind for kind, _ in kinds] == [errors.BadInput] * 2, (name, kinds)
                assert all("told to refuse" in text for _, text in kinds)
            with pytest.raises(errors.DeadlineExceeded):
                runner.infer(Input3=arrays[0], deadline_ms=0.001).get(timeout=200)
        assert "large tensors in shared memory" in ways["shared"].why()


def _error(runner: Any, given: dict[str, Any]) -> tuple[type[BaseException], str]:
    with pytest.raises(errors.RequestError) as raised:
        runner.infer(given).get(timeout=200)
    return type(raised.value), str(raised.value)


def test_500_photographs_while_triton_is_killed_and_started_again(environment: Environment, tmp_path: Path) -> None:
    """decode ──▶ a model on Triton ──▶ the best labels: each is answered, or Unavailable after its deadline."""
    environment(TRITON)
    models = triton_models(tmp_path)
    document = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    photos = sorted((ROOT / "photos/digits").glob("*.png"))
    requests = [{"image": path.read_bytes()} for path in photos] * (500 // len(photos))
    with triton(models) as server:
        far = {"url": f"grpc://{server.grpc}", "model": "mnist", "in_flight": 4, "patience_s": 60}
        document["stages"][1] |= {"use": "stages.remote:RemoteInfer", "with": far}
        config = tmp_path / "far.yaml"
        config.write_text(
            yaml.safe_dump(document | {"run": {"inputs": [str(ROOT / "photos/digits")]}}, sort_keys=False)
        )
        with pipeline.InferenceManager(str(config)) as manager:
            runner = manager.infer_runner("digits")
            expected = [future.get(timeout=200)["labels"] for future in runner.infer_many(requests[: len(photos)])]
            futures = runner.infer_many(requests, deadline_ms=90_000)
            while not any(future.done() for future in futures):
                time.sleep(0.001)
            server.kill()
            with triton(models, ports=server.ports):
                found = [future.exception(timeout=200) for future in futures]
    assert len(found) == 500
    assert {type(error) for error in found} <= {type(None), errors.Unavailable, errors.DeadlineExceeded}
    for error, future, labels in zip(found, futures, expected * (500 // len(photos))):
        if error is None:
            assert future.get()["labels"] == labels
        else:
            assert future.request in str(error.__dict__)
    assert found.count(None) == 500


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("kind", ["mlserver", "kserve"])
def test_servers_in_python(environment: Environment, tmp_path: Path, kind: str, scheme: str) -> None:
    environment({"mlserver": MLSERVER, "kserve": KSERVE}[kind])
    with in_python(kind, tmp_path) as where:
        url = f"{scheme}://{where.grpc if scheme == 'grpc' else where.http}"
        with pipeline.RemoteInferenceManager(url, timeout_s=60) as manager:
            _ask_for_twice(manager, (kind, scheme) == ("mlserver", "http"))


def _ask_for_twice(manager: pipeline.RemoteInferenceManager, json_alone: bool) -> None:
    runner = manager.infer_runner("twice")
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert runner.input_bindings() == {"x": ("x_0", 4)}
    assert "tells no config" in runner.why()
    assert runner.infer(x=x).get(timeout=200)["y"].tolist() == (x * 2).tolist()
    with pytest.raises(errors.BadInput, match="told to refuse"):
        runner.infer(x=-np.ones((1, 4), np.float32)).get(timeout=200)
    batched = manager.infer_runner("twice", max_batch_size=2)
    assert batched.input_bindings() == {"x": (4,)}
    assert batched.infer(x=np.ones((5, 4), np.float32)).get(timeout=200)["y"].shape == (5, 4)
    with pytest.raises(errors.Unavailable, match="no model 'twce' that is ready"):
        manager.infer_runner("twce")
    assert manager.get_models() == ["twice"]
    assert manager.status()["twice"]["state"] == "ready"
    if json_alone:
        assert "HTTP, JSON; it refuses binary tensors" in manager.why()
