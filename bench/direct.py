"""Direct: a stage that is called in this process, as a program without a pipeline would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shm.handle import JSON
from stages.batch import Array, Batch
from stages.stage import Stage

__all__ = ["call", "call_rows"]


def call(stage: Stage, **inputs: Any) -> dict[str, Any]:
    """Run a stage over one row; its outputs by name. No input is copied, and an alias is the input itself.

    Raises:
        BaseException: the error with which the stage fails.
    """
    specs = {spec.name: spec for spec in stage.outputs if spec.alias_of is None}
    made: dict[str, Any] = {}

    def allocate(row: int, name: str, shape: tuple[int, ...]) -> Array:
        view = made[name] = np.empty(shape, specs[name].dtype.replace("json", "uint8"))
        return view

    def allocate_many(row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        views = made[name] = [np.empty(shape, specs[name].dtype) for shape in shapes]
        return views

    batch = Batch(1, {name: [value] for name, value in inputs.items()}, specs, allocate, allocate_many)
    batch.finish(stage.process(batch))
    if batch.failed:
        raise batch.failed[0]
    made.update({spec.name: inputs[spec.alias_of] for spec in stage.outputs if spec.alias_of is not None})
    return made


def call_rows(stage: Stage, **inputs: Any) -> dict[str, Any]:
    """Run a stage over several rows at once; for each output its rows, in one array if its shape is fixed.

    Args:
        inputs: for each input one array a row; an array of one axis more does as well, and is not copied.

    Raises:
        BaseException: the error with which the first row fails.
    """
    specs = {spec.name: spec for spec in stage.outputs if spec.alias_of is None}
    count = len(next(iter(inputs.values())))
    made: dict[str, Any] = {
        name: [None] * count if spec.dtype == JSON or not spec.is_static else np.empty((count, *spec.shape), spec.dtype)
        for name, spec in specs.items()
    }

    def allocate(row: int, name: str, shape: tuple[int, ...]) -> Array:
        if isinstance(made[name], list):
            made[name][row] = np.empty(shape, specs[name].dtype.replace(JSON, "uint8"))
        view: Array = made[name][row, ...] if isinstance(made[name], np.ndarray) else made[name][row]
        return view

    def allocate_many(row: int, name: str, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        raise TypeError(f"output {name}: call_rows takes no stage that fans out")

    batch = Batch(count, {name: list(rows) for name, rows in inputs.items()}, specs, allocate, allocate_many)
    batch.finish(stage.process(batch))
    if batch.failed:
        raise next(iter(batch.failed.values()))
    return made
