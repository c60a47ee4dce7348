"""ProbedModel: an .onnx file, opened to see what it declares and what it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline.errors import StartError
from shm.handle import BFLOAT16, numpy_dtype
from stages.engines.onnxruntime import DTYPES, element_type
from stages.stage import Array

__all__ = ["Declared", "ProbedModel", "numbers_for"]


@dataclass(frozen=True, slots=True)
class Declared:
    """A tensor as the file declares it, its batch axis included."""

    name: str
    dtype: str
    axes: tuple[int | str | None, ...]
    """A number, the name of a free dimension, or None if a free dimension has no name."""

    def __str__(self) -> str:
        extents = [str(axis) if isinstance(axis, int) or (axis and len(axis) <= 20) else "?" for axis in self.axes]
        return f"{self.name} {self.dtype}[{', '.join(extents)}]"


class ProbedModel:
    """A model all of whose tensors are numbers.

    Raises:
        StartError: the file is missing or damaged, or one of its tensors cannot lie in a slot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise StartError(f"no model file {path}")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # damaged files, unknown operators and newer opsets have an exception class each
            raise StartError(f"{path}: onnxruntime {ort.__version__} cannot load it: {error}") from error
        self.inputs = [_declared(path, "input", node) for node in self._session.get_inputs()]
        self.outputs = [_declared(path, "output", node) for node in self._session.get_outputs()]
        if not self.inputs:
            raise StartError(f"{path}: the model has no input, so there is nothing that a request could carry")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs, the batch axis included.

        Raises:
            ValueError: the model does not compute these; the message has its own words.
        """
        try:
            names = [tensor.name for tensor in self.outputs]
            values = self._session.run_with_ort_values(names, {name: _value(array) for name, array in inputs.items()})
        except Exception as error:  # these have no common base class either
            raise ValueError(str(error).strip().splitlines()[0][:300]) from error
        return {name: tuple(value.shape()) for name, value in zip(names, values)}


def _value(array: Array) -> ort.OrtValue:
    if array.dtype.name == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type(array))
    return ort.OrtValue.ortvalue_from_numpy(array)


def numbers_for(name: str, dtype: str, shape: Sequence[int], fill: int = 1) -> Array:
    """Numbers that most models accept: floats from 0 to 1, for other types `fill`.

    For tokens, types and masks a one is valid. Every row of floats differs from the others.
    """
    if numpy_dtype(dtype).kind == "f" or dtype == BFLOAT16:
        return np.random.default_rng(list(name.encode())).random(tuple(shape)).astype(dtype)
    return np.full(tuple(shape), fill, dtype)


def _declared(path: Path, side: str, node: Any) -> Declared:
    dtype = DTYPES.get(node.type)
    if dtype is None:
        raise StartError(f"{path}: {side} {node.name!r} is a {node.type}: {_remedy(side, node.type)}")
    return Declared(node.name, dtype, tuple(axis or None if not isinstance(axis, int) else axis for axis in node.shape))


def _remedy(side: str, kind: str) -> str:
    if "string" in kind and side == "input":
        return "engines take numbers; cut the model behind what reads the text, and do that in a stage before it"
    if "string" in kind:
        return "engines give numbers; export the numbers of the classes, and look up their names in a stage behind it"
    if "map" in kind:
        return (
            f"no tensor of numbers, so it can lie in no slot; export the model without that {side}, or with a tensor "
            f"in its place (skl2onnx: options={{'zipmap': False}})"
        )
    return f"no tensor of numbers, so it can lie in no slot; export the model without that {side}, or with a tensor"
