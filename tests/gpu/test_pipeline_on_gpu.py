"""Whole pipelines whose inference runs on a GPU: the same scores as on the CPU, also after deaths."""

from __future__ import annotations

import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.testing.running import RunningPipeline, running

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "resnet.yaml"
GPU = ["inference.engine=tensorrt", "inference.batch.max_size=8"]


def scores(pipeline: RunningPipeline, files: list[Path], turns: int = 1, kill: int = 0) -> list[dict[str, float]]:
    """Those of every file in order, a few requests in flight; `kill` is killed after the first dozen answers."""
    waiting = [file.read_bytes() for _ in range(turns) for file in files]
    found: list[dict[str, float]] = []
    flying: deque[Any] = deque()
    with pipeline.client() as client:
        while waiting or flying:
            while waiting and len(flying) < 24:
                flying.append(client.submit(image=waiting.pop(0)))
            with flying.popleft().get(120) as result:
                found.append(by_label(result))
            if kill and len(found) == 12:
                os.kill(kill, signal.SIGKILL)
    return found


def by_label(result: Any) -> dict[str, float]:
    return dict(zip(result["labels"], np.asarray(result["scores"]).tolist()))


@pytest.fixture(scope="module")
def files(photos: Path) -> list[Path]:
    return sorted(photos.glob("*.jpg"))


@pytest.fixture(scope="module")
def on_cpu(files: list[Path]) -> list[dict[str, float]]:
    with running(CONFIG, ["inference.engine=onnxruntime"]) as pipeline:
        return scores(pipeline, files)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", 2e-2)])
@pytest.mark.parametrize("contexts", [1, 4])
def test_the_scores_are_those_of_the_cpu(
    model: Path, files: list[Path], on_cpu: Any, precision: str, tolerance: float, contexts: int
) -> None:
    with running(CONFIG, [*GPU, f"inference.precision={precision}", f"inference.contexts={contexts}"]) as pipeline:
        found = scores(pipeline, files, turns=20)
        print(pipeline.log())
    for index, scored in enumerate(found):
        wanted = on_cpu[index % len(files)]
        for label, score in wanted.items():
            assert abs(scored[label] - score) < tolerance * max(wanted.values()), files[index % len(files)]


def test_a_worker_that_is_killed_loses_no_request(model: Path, files: list[Path], on_cpu: Any) -> None:
    with running(CONFIG, [*GPU, "inference.contexts=4"]) as pipeline:
        found = scores(pipeline, files, turns=10, kill=pipeline.worker_pids("inference")[0])
    assert len(found) == 10 * len(files)
    for index, scored in enumerate(found):
        assert abs(scored["sfw"] - on_cpu[index % len(files)]["sfw"]) < 2e-2
