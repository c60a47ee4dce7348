"""The TensorRT engine on a GPU says what onnxruntime says, however its batches come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.engines import engine_class
from stages.engines.engine import EngineOptions
from stages.engines.tensorrt.engine import TensorRt
from stages.errors import ModelError
from stages.infer import Infer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2}


def error_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value of the same row."""
    return float((np.abs(found - wanted) / np.abs(wanted).max(axis=1, keepdims=True)).max())


def loaded(model: Path, max_batch: int = 8, **options: Any) -> TensorRt:
    engine = TensorRt(model, {}, EngineOptions(**options))
    engine.load(1, "cuda:0", max_batch)
    engine.warm_up([1, max_batch])
    return engine


def through_slots(engine: TensorRt, pictures: np.ndarray, slots: Callable[..., Any], pinned: bool) -> np.ndarray:
    """All pictures in shuffled order, in batches of mixed sizes, as many in flight as the engine takes."""
    (takes,), (gives,) = engine.specs.inputs, engine.specs.outputs
    count = len(pictures)
    source, ins = slots(takes.max_nbytes, count)
    target, outs = slots(gives.max_nbytes, count)
    rows = [np.ndarray(takes.max_shape, takes.dtype, slot) for slot in ins]
    results = [np.ndarray(gives.max_shape, gives.dtype, slot) for slot in outs]
    for row, picture in zip(rows, pictures):
        row[...] = picture
    if pinned:
        engine.attach_memory([source.buffer, target.buffer])
        assert engine._gpu().registered_bytes == len(source.buffer) + len(target.buffer)
    rng = np.random.default_rng(count)
    order = [int(number) for turn in range(4) for number in rng.permutation(count)]
    flying: list[Any] = []
    overlapped = 0
    while order or flying:
        flying = [token for token in flying if not engine.done(token)]
        while order and len(flying) < engine.concurrency:
            size = int(rng.integers(1, 9))
            batch, order = order[:size], order[size:]
            inputs = {takes.name: [rows[number] for number in batch]}
            flying.append(engine.start(inputs, {gives.name: [results[number] for number in batch]}))
            overlapped = max(overlapped, len(flying))
    assert overlapped == engine.concurrency
    made = np.stack([np.array(result) for result in results])
    engine.close()
    return made


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "calls"])
@pytest.mark.parametrize("contexts", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_says_what_onnxruntime_says(
    model: Path, pictures: np.ndarray, expected: np.ndarray, slots: Callable[..., Any],
    precision: str, contexts: int, cuda_graphs: bool, pinned: bool,
) -> None:  # fmt: skip
    engine = loaded(model, precision=precision, contexts=contexts, cuda_graphs=cuda_graphs)
    captured = sum(len(lane.graphs) for lane in engine._lanes)
    assert captured == (engine.concurrency * 2 if cuda_graphs else 0)
    found = through_slots(engine, pictures, slots, pinned)
    error = error_of(found, expected)
    print(f"{precision} contexts={contexts} graphs={cuda_graphs} pinned={pinned}: relative error {error:.2e}")
    assert error < TOLERANCE[precision]


def test_arrays_of_any_number_of_rows_are_cut_and_padded(model: Path, pictures: np.ndarray, expected: np.ndarray) -> None:
    engine = loaded(model, precision="fp32")
    (takes,), (gives,) = engine.specs.inputs, engine.specs.outputs
    found = engine.run({takes.name: pictures[:19]}, {})[gives.name]
    assert error_of(found, expected[:19]) < TOLERANCE["fp32"]
    engine.close()


def test_memory_can_be_attached_again(model: Path, pictures: np.ndarray, expected: np.ndarray, slots: Any) -> None:
    engine = loaded(model, precision="fp32", contexts=2)
    before, _ = slots(4096, 4)
    engine.attach_memory([before.buffer])
    found = through_slots(engine, pictures, slots, pinned=True)
    assert error_of(found, expected) < TOLERANCE["fp32"]


def test_auto_takes_tensorrt_where_a_plan_fits(model: Path) -> None:
    assert engine_class("auto", model) is TensorRt
    assert Infer(model.name, base_dir=model.parent).device == "cuda"


def test_a_batch_above_the_largest_plan_is_refused_with_the_command(model: Path) -> None:
    with pytest.raises(ModelError, match=r"batches of up to 64 were asked for.*pipeline build .* --batch 64"):
        loaded(model, max_batch=64)


def test_the_log_names_what_was_loaded_and_what_it_takes(model: Path) -> None:
    engine = loaded(model, contexts=2)
    summary = engine.summary
    print(summary)
    for line in ("contexts        2", "inputs", "outputs", "activations", "weights", "host memory", "device memory"):
        assert line in summary
    engine.close()
