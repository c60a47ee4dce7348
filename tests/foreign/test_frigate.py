"""Frigate's own detector over `pipeline detector`: its class, as it is in Frigate's repository, and not a copy of ours."""

from __future__ import annotations

import enum
import importlib.util
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from bench.versus.environments import FRIGATE
from tests.finding import expected, finder, picture

pytestmark = pytest.mark.foreign

def loaded(name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugin(environment: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The module of the detector. Of what it imports, only the config's classes are ours: Frigate's need all of Frigate."""
    folder = environment(FRIGATE)
    before = set(sys.modules)
    config: Any = types.ModuleType("frigate.detectors.detector_config")
    config.BaseDetectorConfig = type("BaseDetectorConfig", (pydantic.BaseModel,), {"__annotations__": {"model": Any}})
    config.ModelTypeEnum = enum.Enum("ModelTypeEnum", ["ssd", "yolox"])
    for name in ("frigate", "frigate.detectors"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, config.__name__, config)
    try:
        loaded("frigate.detectors.detection_api", folder / "detection_api.py")
        yield loaded("frigate.detectors.plugins.zmq_ipc", folder / "zmq_ipc.py")
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("frigate."):
                sys.modules.pop(name)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "pipeline", "detector", str(finder(tmp_path, replicas=2)), "--zmq", f"ipc://{tmp_path}/z"]
    child = subprocess.Popen([*command, "--deadline-ms", "150"], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert child.stdout is not None
        yield child.stdout.readline().split()[-1]
        child.terminate()
        assert child.wait(200) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_frigates_detectors_get_the_tables_that_they_expect_and_a_reason_in_their_log(
    plugin: Any, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = sys.modules["frigate.detectors.detector_config"].ModelTypeEnum
    model = types.SimpleNamespace(path="/config/model.onnx", height=32, width=32, model_type=kinds.ssd)

    @contextmanager
    def detector() -> Iterator[Any]:
        config = plugin.ZmqDetectorConfig(type="zmq", endpoint=endpoint, request_timeout_ms=60_000, model=model)
        made = plugin.ZmqIpcDetector(config)
        try:
            yield made
        finally:
            # It closes neither by itself.
            made._socket.close()
            made._context.term()
            made._socket = None

    def ask(number: int) -> int:
        answered = 0
        with detector() as one:
            for turn in range(20):
                value = (number * 20 + turn) % 250
                found = one.detect_raw(np.frombuffer(picture(value), np.uint8).reshape(1, 32, 32, 3))
                # On a busy machine some may be late: those are zeros.
                if found.any():
                    assert np.array_equal(found, expected(value))
                    answered += 1
        return answered

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) > 0
    with detector() as one:
        assert one._model_ready
        with caplog.at_level(logging.WARNING):
            found = one.detect_raw(np.frombuffer(picture(255), np.uint8).reshape(1, 32, 32, 3))
        assert found.shape == (20, 6)
        assert not found.any()
        assert "unexpected payload size" in caplog.text
        # Its connection is as it was.
        while not one.detect_raw(np.frombuffer(picture(7), np.uint8).reshape(1, 32, 32, 3)).any():
            pass
