"""However copies and networks interleave on the GPU, every batch gets what is its own; see `simulated_cuda`."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.engines.engine import EngineOptions
from stages.engines.plans import EnginePlan, Profile, file_sha256, gpu_slug, plans_of, write_plan
from stages.engines.signature import TensorAxes
from stages.engines.tensorrt import compat, lanes
from stages.engines.tensorrt import engine as engine_module
from stages.engines.tensorrt.engine import TensorRt
from stages.engines.transfers import Transfer
from stages.errors import ModelError, StageBroken
from tests.unit.stages.simulated_cuda import Context, Device, Event, Graph, World, library

SIZES = (1, 4)
NOTHING: Mapping[str, int] = {}
SLOTS = 48

def built(
    model: Path, batch: int, gpu: str = Device.name, *, ranged: bool = False, with_total: bool = False
) -> None:
    """Put a plan into the cache."""
    axis = "length" if ranged else 12
    total = (TensorAxes("total", "float32", (batch,)),) * with_total
    axes = (TensorAxes("x", "uint8", (batch, axis)),), (TensorAxes("y", "float32", (batch, 2)), *total)
    profiles = (Profile("x", (batch, 1), (batch, 8), (batch, 12)),) * ranged
    plan = EnginePlan("net", file_sha256(model), gpu_slug(gpu), "trt-8.5.3.1", "fp16", batch, *axes, profiles=profiles)
    write_plan(plan, json.dumps(batch).encode())


Load = Callable[..., tuple[TensorRt, World]]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With plans for batches of 1 and 4."""
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path))
    model = tmp_path / "net.onnx"
    model.write_bytes(b"\x12\x07a model")
    for batch in SIZES:
        built(model, batch)
    return model


@pytest.fixture
def load(model: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """An engine on a simulated GPU."""

    def load(
        seed: int, max_: Mapping[str, int] = NOTHING, leave_out: Sequence[str] = (), **options: Any
    ) -> tuple[TensorRt, World]:
        world = World(seed)
        monkeypatch.setattr(engine_module, "Device", lambda ordinal: Device(world))
        monkeypatch.setattr(engine_module, "_logger", lambda trt: None)
        monkeypatch.setattr(lanes, "Graph", partial(Graph, world))
        monkeypatch.setattr(compat, "load_library", lambda: library(world))
        engine = TensorRt(model, max_, EngineOptions(**options), leave_out=leave_out)
        engine.load(1, "cuda:0", max(SIZES))
        engine.warm_up([1, max(SIZES)])
        return engine, world

    return load


def play(engine: TensorRt, world: World, batches: int = 40) -> int:
    """Batches of any sizes, over slots in any order; how many answers were wrong. All slots are reused."""
    dice = world.dice
    # Slots of 64 bytes: rows lie side by side, apart, or far apart.
    ins, outs = np.zeros((SLOTS, 64), np.uint8), np.zeros((SLOTS, 16), np.float32)
    free, flying, wrong, most = list(range(SLOTS)), [], 0, 0
    while batches or flying:
        for entry in tuple(flying):
            token, rows, wanted = entry
            if engine.done(token):
                flying.remove(entry)
                found = outs[rows, :2]
                wrong += int((found != wanted).any(axis=1).sum())
                ins[rows], outs[rows] = 255, -1
                free += rows
        if batches and len(flying) < engine.concurrency:
            batches -= 1
            dice.shuffle(free)
            rows = [free.pop() for _ in range(dice.randint(1, max(SIZES)))]
            if dice.random() < 0.7:
                rows.sort()
            given = np.frombuffer(dice.randbytes(12 * len(rows)), np.uint8).reshape(len(rows), 12)
            ins[rows, :12] = given
            wanted = np.stack([given.sum(axis=1), given[:, 0]], axis=1)
            token = engine.start({"x": [ins[row, :12] for row in rows]}, {"y": [outs[row, :2] for row in rows]})
            flying.append((token, rows, wanted))
            most = max(most, len(flying))
    assert most == engine.concurrency
    return wrong


@pytest.mark.parametrize("small_row", [0, 10, 4096], ids=["all enqueued", "answers by the host", "all by the host"])
@pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "calls"])
@pytest.mark.parametrize("contexts", [1, 2, 3])
def test_every_batch_gets_its_own_answers(
    load: Load, contexts: int, cuda_graphs: bool, small_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SMALL_ROW", small_row)
    for seed in range(15):
        engine, world = load(seed, contexts=contexts, cuda_graphs=cuda_graphs)
        assert engine.concurrency == contexts + 1
        assert sum(len(lane.graphs) for lane in engine._lanes) == (contexts + 1) * len(SIZES) * cuda_graphs
        assert play(engine, world) == 0
        engine.close()


def test_without_the_wait_for_the_other_lane_answers_would_be_wrong(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, world = load(1, contexts=1)
    for scratch in engine._scratches:
        scratch.lanes = 1
    assert play(engine, world) > 0
    engine.close()


def test_rows_are_on_their_way_while_the_batch_before_them_is_computed(load: Load) -> None:
    engine, world = load(0, contexts=1)
    x, y = np.arange(24, dtype=np.uint8).reshape(2, 12), np.zeros((2, 2), np.float32)
    tokens = [engine.start({"x": [x[row]]}, {"y": [y[row]]}) for row in range(2)]
    first, second = (world.streams[token.stream.handle] for token in tokens)
    assert first is not second
    # Upload, nothing to wait for, and half of the network; the other's upload may run, and its network may not.
    for _ in range(3):
        first.popleft()[1]()
    second.popleft()[1]()
    assert not second[0][0]()
    # The other half, and the event: then it may, though nothing was downloaded.
    for _ in range(2):
        first.popleft()[1]()
    assert second[0][0]()
    assert y.tolist() == [[0, 0], [0, 0]]
    while tokens:
        tokens = [token for token in tokens if not engine.done(token)]
    assert y.tolist() == [[x[0].sum(), 0], [x[1].sum(), 12]]
    engine.close()


def test_a_batch_goes_where_no_batch_computes(load: Load) -> None:
    engine, world = load(3, contexts=2)
    x, y = np.zeros((1, 12), np.uint8), np.zeros((1, 2), np.float32)
    for _ in range(20):
        tokens = [engine.start({"x": list(x)}, {"y": list(y)}) for _ in range(2)]
        assert tokens[0].scratch is not tokens[1].scratch
        world.dice.shuffle(tokens)
        while tokens:
            tokens = [token for token in tokens if not engine.done(token)]
    engine.close()


def test_rows_live_until_their_batch_is_over(load: Load) -> None:
    engine, _ = load(0, contexts=1)
    x, y = np.ones((1, 12), np.uint8), np.zeros((1, 2), np.float32)
    refs = [weakref.ref(x), weakref.ref(y)]
    token = engine.start({"x": list(x)}, {"y": list(y)})
    del x, y
    gc.collect()
    assert all(ref() is not None for ref in refs)
    while not engine.done(token):
        pass
    gc.collect()
    assert all(ref() is None for ref in refs)
    engine.close()


def test_plans_with_ranges_have_one_batch_for_each_context_and_no_graphs(load: Load, model: Path) -> None:
    for batch in SIZES:
        built(model, batch, ranged=True)
    engine, world = load(0, {"length": 12}, contexts=2)
    assert engine.concurrency == len(engine._lanes) == 2
    assert [lane.graphs for lane in engine._lanes] == [{}, {}]
    assert play(engine, world) == 0
    engine.close()


def test_a_plan_with_ranges_for_another_gpu_takes_nothing_away(load: Load, model: Path) -> None:
    built(model, 8, "NVIDIA A100", ranged=True)
    engine, _ = load(0, {"length": 12}, contexts=1)
    assert engine.concurrency == 2
    assert [len(lane.graphs) for lane in engine._lanes] == [2, 2]
    engine.close()


def test_what_fails_in_the_middle_of_a_start_breaks_the_stage(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, world = load(0, contexts=1)

    def record(event: Event, stream: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Event, "record", record)
    with pytest.raises(StageBroken, match="NVIDIA Simulated failed while a batch was started: out of order"):
        engine.start({"x": [np.zeros(12, np.uint8)]}, {"y": [np.zeros(2, np.float32)]})
    while world.step():
        pass
    engine.close()


def test_what_lies_side_by_side_is_one_copy_in_and_what_lies_equally_far_apart_is_one_copy_out(load: Load) -> None:
    engine, _ = load(0, contexts=1)
    gpu: Any = engine._gpu()
    x, y = np.zeros((4, 12), np.uint8), np.zeros((4, 16), np.float32)
    before = gpu.copies
    token = engine.start({"x": list(x)}, {"y": [row[:2] for row in y]})
    assert gpu.copies - before == 2
    while not engine.done(token):
        pass
    assert y[:, 0].tolist() == [0, 0, 0, 0]
    engine.close()


def test_small_rows_anywhere_are_one_copy_each_way(load: Load) -> None:
    engine, _ = load(0, contexts=1)
    gpu: Any = engine._gpu()
    x, y = np.ones((9, 12), np.uint8), np.zeros((9, 16), np.float32)
    rows = [0, 1, 5, 8]
    before = gpu.copies
    token = engine.start({"x": [x[row] for row in rows]}, {"y": [y[row, :2] for row in rows]})
    assert gpu.copies - before == 2
    while not engine.done(token):
        pass
    assert y[:, 0].tolist() == [12, 12, 0, 0, 0, 12, 0, 0, 12]
    engine.close()


def test_where_no_memory_can_be_pinned_every_piece_is_enqueued(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "allocate_pinned", lambda gpu, nbytes: None)
    engine, world = load(0, contexts=1)
    assert play(engine, world) == 0
    gpu: Any = engine._gpu()
    x, y = np.ones((9, 12), np.uint8), np.zeros((9, 16), np.float32)
    before = gpu.copies
    token = engine.start({"x": [x[row] for row in (0, 2, 3, 6)]}, {"y": [y[row, :2] for row in (0, 2, 3, 6)]})
    assert gpu.copies - before == 4
    while not engine.done(token):
        pass
    engine.close()


@pytest.mark.parametrize(("rows", "pieces", "expected"), [(4, 1, False), (4, 2, True), (5, 2, False), (64, 17, True)])
def test_many_rows_in_few_pieces_are_left_to_the_gpu(rows: int, pieces: int, expected: bool) -> None:
    transfers = [Transfer(0, 0, 8, 8, 1)] * pieces
    assert lanes._is_slower([np.zeros(1)] * rows, transfers) == expected


def test_arrays_of_any_number_of_rows_are_cut_and_padded(load: Load) -> None:
    engine, world = load(5, contexts=2)
    x = np.frombuffer(world.dice.randbytes(12 * 11), np.uint8).reshape(11, 12)
    found = engine.run({"x": x}, {})["y"]
    np.testing.assert_array_equal(found, np.stack([x.sum(axis=1), x[:, 0]], axis=1))
    engine.close()


def test_rows_without_dimensions_are_written_where_they_lie(load: Load, model: Path) -> None:
    for batch in SIZES:
        built(model, batch, with_total=True)
    engine, world = load(6, contexts=1)
    x = np.frombuffer(world.dice.randbytes(12 * 6), np.uint8).reshape(6, 12)
    np.testing.assert_array_equal(engine.run({"x": x}, {})["total"], x.sum(axis=1))
    totals = np.zeros(6, np.float32)
    engine.run({"x": x}, {"total": totals})
    np.testing.assert_array_equal(totals, x.sum(axis=1))
    engine.close()


def test_the_log_tells_contexts_batches_and_memory(load: Load) -> None:
    engine, _ = load(0, contexts=2)
    assert "contexts        2, and 3 batches under way, each in a stream; 6 CUDA graphs" in engine.summary
    engine.close()


def test_what_is_left_out_is_computed_and_goes_nowhere(load: Load, model: Path) -> None:
    for batch in SIZES:
        built(model, batch, with_total=True)
    engine, world = load(6, contexts=1, leave_out=["total"])
    assert [spec.name for spec in engine.specs.outputs] == ["y"]
    assert play(engine, world) == 0
    engine.close()


def test_a_plan_that_has_as_many_rows_at_one_size_only_is_refused(load: Load, model: Path) -> None:
    # With the plan for 4 alone, an output of four detections looks like a row for each request.
    plan = next(plan for plan in plans_of("net") if plan.batch == 1)
    write_plan(replace(plan, outputs=(TensorAxes("y", "float32", (4, 2)),)), b"1")
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[4, 2\] for a batch of 1; expected 1"):
        load(0)


def test_an_output_without_a_row_for_each_request_of_free_shapes_is_refused(
    load: Load, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in SIZES:
        built(model, batch, ranged=True)
    engine, _ = load(0, {"length": 12})
    monkeypatch.setattr(Context, "get_tensor_shape", lambda context, name: (7, 2))
    with pytest.raises(ModelError, match=r"output 'y' has the shape \[7, 2\] for a batch of 4; expected 4"):
        engine.known_shapes({"x": [np.zeros(12, np.uint8)]})
    engine.close()
