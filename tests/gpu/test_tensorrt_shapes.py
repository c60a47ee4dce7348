"""Plans with free dimensions, and plans in int8, say what onnxruntime says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.interpreter import python_command
from stages import catalogue
from stages.engines.engine import EngineOptions
from stages.engines.onnxruntime import OnnxRuntime
from stages.engines.plans import plans_dir, plans_of
from stages.engines.tensorrt.engine import TensorRt
from stages.errors import BadInput, ModelError

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

DATA = Path(__file__).parents[1] / "data" / "models"


def build(model: object, *options: object) -> None:
    command = [*python_command("pipeline.cli.main"), "build", str(model), *map(str, options)]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    assert done.returncode == 0


def both(path: Path, max: Mapping[str, int], max_batch: int, name: str = "", **options: Any) -> tuple[Any, Any]:
    """onnxruntime and TensorRT over the same model; what either is given, both are."""
    shapes = catalogue.ASSETS[name].shapes if name else {}
    reference = OnnxRuntime(path, max, shapes=shapes)
    reference.load(os.cpu_count() or 1, "cpu")
    engine = TensorRt(path, max, EngineOptions(**options), shapes)
    engine.load(1, "cuda:0", max_batch)
    engine.warm_up([1, max_batch])
    return reference, engine


@pytest.mark.parametrize("contexts", [1, 3])
def test_every_length_within_the_range_is_computed(contexts: int) -> None:
    path = DATA / "double_any_length.onnx"
    build(path, "--batch", "4", "--precision", "fp32", "--range", "length=1:8:64")
    reference, engine = both(path, {"length": 64}, 4, contexts=contexts, precision="fp32")
    rng = np.random.default_rng(0)
    for length in (64, 1, 8, 63, 2, 64, 8):
        for size in (1, 3, 4, 9):
            x = rng.standard_normal((size, length)).astype(np.float32)
            wanted, found = reference.run({"x": x}, {}), engine.run({"x": x}, {})
            assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in wanted.items()}
            for name, array in wanted.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    engine.close()


def test_batches_of_different_lengths_are_in_flight_at_once(slots: Callable[..., Any]) -> None:
    path = DATA / "double_any_length.onnx"
    build(path, "--batch", "4", "--precision", "fp32", "--range", "length=1:8:64")
    _, engine = both(path, {"length": 64}, 4, contexts=3, precision="fp32")
    segment, room = slots(256, 60)
    engine.attach_memory([segment.buffer])
    flying, results = [], []
    for turn, length in enumerate([64, 1, 33, 8, 64]):
        while len(flying) == engine.concurrency:
            flying = [token for token in flying if not engine.done(token)]
        first = turn * 12
        rows = [np.ndarray((length,), np.float32, room[first + n]) for n in range(4)]
        outs = [np.ndarray((length,), np.float32, room[first + 4 + n]) for n in range(4)]
        totals = [np.ndarray((), np.float32, room[first + 8 + n]) for n in range(4)]
        for number, row in enumerate(rows):
            row[...] = turn * 10 + number
        flying.append(engine.start({"x": rows}, {"y": outs, "total": totals}))
        results.append((rows, outs))
    while flying:
        flying = [token for token in flying if not engine.done(token)]
    for rows, outs in results:
        for row, out in zip(rows, outs):
            np.testing.assert_array_equal(out, 2 * row)
    del rows, outs, totals, row, out, results
    engine.close()


def test_a_length_outside_the_range_is_the_requests_mistake() -> None:
    path = DATA / "double_any_length.onnx"
    build(path, "--batch", "4", "--precision", "fp32", "--range", "length=2:8:64")
    _, engine = both(path, {"length": 64}, 4, precision="fp32")
    with pytest.raises(BadInput):
        engine.run({"x": np.zeros((1, 1), np.float32)}, {})
    with pytest.raises(BadInput):
        engine.run({"x": np.zeros((1, 65), np.float32)}, {})
    assert engine.run({"x": np.ones((1, 2), np.float32)}, {})["y"].tolist() == [[2, 2]]
    engine.close()


@pytest.mark.parametrize(
    ("name", "ranges", "max", "shapes"),
    [
        ("ppocr-v4-det", ["H=32:640:960", "W=32:640:960"], {"H": 960, "W": 960}, [(3, 640, 640), (3, 960, 320)]),
        ("ppocr-v4-rec", ["W=32:320:960"], {"W": 960}, [(3, 48, 320), (3, 48, 64), (3, 48, 960)]),
    ],
)
def test_the_models_of_the_reading_pipeline_agree_with_the_cpu(
    name: str, ranges: list[str], max: dict[str, int], shapes: list[tuple[int, ...]]
) -> None:
    try:
        path = catalogue.find(name, Path())
    except ModelError as error:
        pytest.skip(str(error))
    build(name, "--batch", "1", "--precision", "fp32", *(part for text in ranges for part in ("--range", text)))
    reference, engine = both(path, max, 1, name, precision="fp32")
    rng = np.random.default_rng(1)
    for shape in shapes:
        x = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
        (wanted,), (found,) = reference.run({"x": x}, {}).values(), engine.run({"x": x}, {}).values()
        assert found.shape == wanted.shape
        error = float(np.abs(found - wanted).max())
        print(f"{name} {shape}: largest difference {error:.2e}")
        assert error < 5e-3
    engine.close()


def test_int8_is_near_and_its_calibration_is_kept(
    model: Path, pictures: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    name = OnnxRuntime(model, {}).specs.inputs[0].name
    samples = tmp_path / "samples.npz"
    np.savez(samples, **{name: pictures})
    build(model, "--batch", "8", "--precision", "int8", "--calibration", samples)
    (kept,) = plans_dir().glob(f"{model.stem}.*.calibration")
    assert b"TRT" in kept.read_bytes()[:16]
    (plan,) = [plan for plan in plans_of(model.stem) if plan.precision == "int8"]
    assert plan.calibration
    engine = TensorRt(model, {}, EngineOptions(precision="int8"))
    engine.load(1, "cuda:0", 8)
    engine.warm_up([8])
    (gives,) = engine.specs.outputs
    found = engine.run({name: pictures}, {})[gives.name]
    worst = float(np.abs(found - expected).max())
    print(f"int8: largest difference of a score {worst:.3f}")
    assert worst < 0.1
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9
    engine.close()
