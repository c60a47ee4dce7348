"""Graphs in a few words: stages declared as strings, machines as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.graph.description import INFERENCE_CLASS, StageDescription
from stages.spec import TensorSpec

HEAD = "inputs: [{name: image, dtype: uint8, shape: [4]}, {name: size, dtype: int32, shape: [2]}]\nstages:\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedConfig]:
    """A config of these stages (and what follows them), with the inputs `image` and `size`."""

    def load(stages: str, head: str = HEAD) -> LoadedConfig:
        path = tmp_path / "demo.yaml"
        path.write_text(head + stages)
        return load_config(path)

    return load


def _spec(text: str) -> TensorSpec:
    """`image uint8 4`, `page uint8 H<=960 W<=960` with free dimensions, `image uint8 4 = source` for an alias."""
    text, _, alias = text.partition(" = ")
    name, dtype, *extents = text.split()
    shape: list[int | str] = []
    most: dict[str, int] = {}
    for extent in extents:
        free, _, bound = extent.rpartition("<=")
        shape.append(free or int(bound))
        if free:
            most[free] = int(bound)
    return TensorSpec(name, dtype, tuple(shape), most, alias_of=alias or None)


@pytest.fixture
def describe() -> Callable[..., StageDescription]:
    """`describe("image uint8 4 -> pixels float32 2 2, meta uint8 3")`."""

    def describe(text: str, *, inference: bool = False) -> StageDescription:
        inputs, _, outputs = text.partition("->")
        return StageDescription(
            tuple(_spec(part) for part in inputs.split(",") if part.strip()),
            tuple(_spec(part) for part in outputs.split(",") if part.strip()),
            (INFERENCE_CLASS,) if inference else ("m:C",),
        )

    return describe


@pytest.fixture
def described(describe: Callable[..., StageDescription]) -> Callable[..., Mapping[str, StageDescription]]:
    """`described(a="x uint8 4 -> y uint8 4", ...)`: descriptions by stage."""

    def described(**texts: str) -> Mapping[str, StageDescription]:
        return {name: describe(text) for name, text in texts.items()}

    return described
