"""Two GPUs: an inference process on each, both at work, and the answers those of one."""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.testing.running import running
from pipeline.topology.machine import read_machine
from stages.engines.engine import EngineOptions
from stages.engines.tensorrt.engine import TensorRt

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "resnet.yaml"
GPUS = len(read_machine().gpus)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(GPUS < 2, reason=f"needs 2 GPUs, here {'is 1' if GPUS else 'is none'}"),
]


def answers(pipeline: Any, files: list[Path], turns: int) -> list[float]:
    """The score of the first label of every file, 32 requests in flight."""
    waiting = [file.read_bytes() for _ in range(turns) for file in files]
    flying: deque[Any] = deque()
    found: list[float] = []
    with pipeline.client() as client:
        while waiting or flying:
            while waiting and len(flying) < 32:
                flying.append(client.submit(image=waiting.pop(0)))
            with flying.popleft().get(120) as result:
                scores = dict(zip(result["labels"], np.asarray(result["scores"]).tolist()))
                found.append(scores["sfw"])
    return found


def workers(pipeline: Any) -> list[dict[str, Any]]:
    (stage,) = [stage for stage in pipeline.status()["stages"] if stage["name"] == "inference"]
    return list(stage["workers"])


def rows_of(pipeline: Any, requests: int) -> list[int]:
    """How many requests each worker has computed, once their reports have come: 0.2 s after the last batch."""
    end = time.monotonic() + 30
    while sum(rows := [worker["rows"] for worker in workers(pipeline)]) < requests and time.monotonic() < end:
        time.sleep(0.05)
    assert sum(rows) == requests, f"a worker was started again, or a request was computed twice: {rows}"
    return rows


def test_a_worker_on_each_gpu_and_all_of_them_at_work(model: Path, photos: Path) -> None:
    files = sorted(photos.glob("*.jpg"))
    one = ["inference.engine=tensorrt", "inference.batch.max_size=8", "inference.precision=fp32"]
    with running(CONFIG, [*one, "inference.replicas=1"]) as pipeline:
        wanted = answers(pipeline, files, 1)
    with running(CONFIG, one) as pipeline:
        found = answers(pipeline, files, 40)
        rows = rows_of(pipeline, 40 * len(files))
        log = pipeline.log()
    buses = re.findall(r"on NVIDIA .*? \((\w+:\w+:\w+\.\w)\): ", log)
    assert len(rows) == GPUS
    assert len(set(buses)) == GPUS, log
    assert min(rows) > 0.5 * sum(rows) / GPUS, rows
    for number, score in enumerate(found):
        assert abs(score - wanted[number % len(files)]) < 1e-3


def test_cuda_visible_devices_leaves_the_second(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = read_machine().gpus[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", second.uuid or "1")
    with running(CONFIG, ["inference.engine=tensorrt", "inference.batch.max_size=8"]) as pipeline:
        answers(pipeline, sorted(photos.glob("*.jpg"))[:2], 2)
        assert len(workers(pipeline)) == 1
        log = pipeline.log()
    assert second.bus_id.lower() in log.lower()


def test_the_engine_computes_on_the_second(model: Path, pictures: np.ndarray, expected: np.ndarray) -> None:
    engine = TensorRt(model, {}, EngineOptions(precision="fp32"))
    engine.load(1, "cuda:1", 8)
    engine.warm_up([1, 8])
    (takes,), (gives,) = engine.specs.inputs, engine.specs.outputs
    found = engine.run({takes.name: pictures}, {})[gives.name]
    error = float((np.abs(found - expected) / np.abs(expected).max(axis=1, keepdims=True)).max())
    assert error < 1e-3
    engine.close()
