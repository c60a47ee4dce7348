"""What a plan's models weigh, by the files that are there."""

from __future__ import annotations

from pathlib import Path

from pipeline.graph.description import INFERENCE_CLASS, StageDescription
from pipeline.graph.plan import BatchPlan, Plan, StagePlan, WorkerPlan
from pipeline.prepare.weights import weights_of


def stage(name: str, model: object, device: str = "cpu") -> StagePlan:
    workers = (WorkerPlan(name, 0, device=device),)
    return StagePlan(name, "m:C", {"model": model}, (), (), (), (), (), BatchPlan(), 4, workers, host=name)


def weights(folder: Path, *stages: StagePlan, classes: tuple[str, ...] = (INFERENCE_CLASS,)) -> dict[str, int]:
    plan = Plan("demo", "demo.yaml", str(folder), (), stages, (), ())
    return weights_of(plan, {one.name: StageDescription((), (), classes) for one in stages})


def test_a_model_weighs_its_file_and_the_weights_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a[1].onnx").write_bytes(bytes(10))
    (tmp_path / "a[1].onnx.data").write_bytes(bytes(1000))
    (tmp_path / "a[1].onnx_data").write_bytes(bytes(200))
    (tmp_path / "a1.onnx.data").write_bytes(bytes(7))
    assert weights(tmp_path, stage("s", "a[1].onnx")) == {"s": 1210}


def test_what_is_no_model_in_memory_weighs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(bytes(10))
    assert weights(tmp_path, stage("gpu", "a.onnx", "cuda:0"), stage("none", 3), stage("gone", "b.onnx")) == {}
    assert weights(tmp_path, stage("own", "a.onnx"), classes=("own:Class",)) == {}
