"""Grounds in a few words: three stages on some cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.loader import load_config
from pipeline.graph.description import INFERENCE_CLASS, StageDescription
from pipeline.graph.planning import make_plan
from pipeline.topology.cpus import Cpus
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode
from pipeline.tuning.space import Ground
from stages.spec import TensorSpec

MakeGround = Callable[..., Ground]

_X = (TensorSpec("x", "int8", (1,)),)


def machine(cores: int, gpus: int = 0) -> Machine:
    """One node of cores without hardware threads."""
    found = tuple(Gpu(number, f"0000:0{number}:00.0", 0) for number in range(gpus))
    return Machine(Cpus(tuple(range(cores))), (NumaNode(0, tuple(range(cores))),), gpus=found)


@pytest.fixture
def make_ground(tmp_path: Path) -> MakeGround:
    """Of `pre`, `infer` (a model) and `post`; arguments are what their stages say, and what they cost."""

    def make(
        cores: int = 2, pre: str = "", infer: str = "batch: {max_size: 4, max_delay_ms: 2}", post: str = "",
        costs: Mapping[str, float] | None = None, gpu: bool = False, max_batch: int | None = None,
    ) -> Ground:  # fmt: skip
        said = {"pre": pre, "infer": infer, "post": post}
        path = tmp_path / "demo.yaml"
        stages = "".join(f"- {{name: {name}, use: 'm:C', {text}}}\n" for name, text in said.items())
        path.write_text(f"inputs: [{{name: x, dtype: int8, shape: [1]}}]\nstages:\n{stages}")
        loaded = load_config(path)
        descriptions = {name: StageDescription(_X, _X, ("m:C",)) for name in said}
        descriptions["infer"] = replace(
            descriptions["infer"], classes=(INFERENCE_CLASS,), device="cuda" if gpu else "cpu", max_batch=max_batch
        )
        on = machine(cores, 1 if gpu else 0)
        plan = make_plan(loaded, descriptions, on)
        return Ground(
            loaded.config.stages, descriptions, plan, costs or {"pre": 4.0, "infer": 6.0, "post": 0.1}, cores
        )

    return make
