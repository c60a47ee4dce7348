"""onnxruntime on the CPU: the engine that runs everywhere.

Inputs are read from, and outputs written to, the caller's memory (IO binding), so a tensor in a slot is
not copied on its way through the model.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from shm.handle import BFLOAT16, numpy_dtype
from stages.engines.engine import Engine
from stages.engines.signature import NO_SHAPES, ModelSpecs, Shapes, TensorAxes, model_specs
from stages.errors import BadInput, ModelError, StageBroken
from stages.stage import Array

__all__ = ["DTYPES", "OnnxRuntime", "declared_outputs", "element_type", "metadata"]

DTYPES = {
    "tensor(float)": "float32",
    "tensor(bfloat16)": BFLOAT16,
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""The types that onnxruntime names and a slot can hold."""

#: onnx.TensorProto.BFLOAT16: onnxruntime does not know numpy's, and takes the number of a type from 1.20 on.
_BFLOAT16_NUMBER = 16

#: Parts of onnxruntime's messages if it gets no memory, and if a node or its first check refuses the inputs.
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
_REFUSED = ("returned while running", "Got invalid dimensions for input", "Invalid rank for input")


class OnnxRuntime(Engine):
    """Runs an .onnx file with onnxruntime's CPU provider."""

    _session: ort.InferenceSession | None = None

    @classmethod
    def describe(
        cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES, leave_out: Collection[str] = ()
    ) -> ModelSpecs:
        session = _open_to_look(path)
        return model_specs(
            path,
            [_axes(path, node) for node in session.get_inputs()],
            [_axes(path, node, leave_out) for node in session.get_outputs()],
            max,
            shapes,
            leave_out,
        )

    def load(self, threads: int, device: str, max_batch: int = 1) -> None:
        if device != "cpu":
            raise ModelError(f"engine onnxruntime runs on the cpu, and this replica was placed on {device}")
        options = _session_options()
        options.intra_op_num_threads = threads
        self._session = _open(self.path, options)

    def close(self) -> None:
        self._session = None

    def _execute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._session is None:
            raise StageBroken(f"{self.path}: run was called before load, or after close")
        binding = self._session.io_binding()
        for name, array in inputs.items():
            if not array.flags.c_contiguous:
                # It gets an address, and would read the wrong bytes.
                raise StageBroken(f"{self.path}: input {name!r} came as an array with gaps")
            binding.bind_input(name, "cpu", 0, element_type(array), array.shape, array.ctypes.data)
        for spec in self.specs.outputs:
            into = outputs.get(spec.name)
            if into is None:
                binding.bind_output(spec.name, "cpu")
            else:
                # onnxruntime compares this shape with the computed one, and refuses before it writes.
                shape = into.shape[1:] if spec.name in self.specs.whole else into.shape
                binding.bind_output(spec.name, "cpu", 0, element_type(into), shape, into.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise self._failure(error) from error
        values = zip(self.specs.outputs, binding.get_outputs())
        made = {spec.name: _array_of(value, spec.dtype) for spec, value in values if spec.name not in outputs}
        return {name: array[np.newaxis] if name in self.specs.whole else array for name, array in made.items()}

    def _failure(self, error: Exception) -> BadInput | ModelError:
        """The error for a run that failed: the fault of the request, or not.

        The model was loaded and has computed zeros, and dtypes and shapes fit the specs. So if a node refuses its
        input, the cause is a value or an extent of a free dimension: the fault of the request. Other errors are not.
        """
        text = str(error)
        if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
            return ModelError(f"{self.path.name}: the memory for this batch could not be had: {text}")
        if any(sign in text for sign in _REFUSED):
            return BadInput(f"{self.path.name} cannot compute this input: {text}")
        return ModelError(f"{self.path.name}: onnxruntime {ort.__version__} failed: {text}")


def element_type(array: Array) -> Any:
    """What onnxruntime calls the type of an array's elements."""
    return _BFLOAT16_NUMBER if array.dtype.name == BFLOAT16 else array.dtype


def _array_of(value: ort.OrtValue, dtype: str) -> Array:
    """An output for which there was no place."""
    if dtype != BFLOAT16:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    array = np.empty(shape, np.uint16)
    ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array.view(numpy_dtype(dtype))


def declared_outputs(path: Path) -> list[TensorAxes]:
    """A model's outputs as its file declares them, batch axis included.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return [_axes(path, node) for node in _open_to_look(path).get_outputs()]


def metadata(path: Path) -> dict[str, str]:
    """The metadata texts in a model's file, by key.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return dict(_open_to_look(path).get_modelmeta().custom_metadata_map)


def _open_to_look(path: Path) -> ort.InferenceSession:
    # A session that neither optimises nor repacks weights: 14 ms instead of 64 ms for a model of 23 MB.
    options = _session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    return _open(path, options)


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    # A spinning thread takes CPU time from the next stage: 11 -> 23 ms a picture on two busy cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors are raised, with the same text.
    options.log_severity_level = 4
    return options


def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    if not path.is_file():
        raise ModelError(f"no model file {path}")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Damaged files, unknown operators and newer opsets have an exception class each.
        raise ModelError(f"{path}: onnxruntime {ort.__version__} cannot load it: {error}") from error


def _axes(path: Path, node: Any, leave_out: Collection[str] | None = None) -> TensorAxes:
    """A tensor as the file declares it.

    Args:
        leave_out: for an output, the outputs that are not needed; None for an input.
    """
    if leave_out and node.name in leave_out:
        # It may be of any type, for only its name is used. A sequence has no shape.
        return TensorAxes(node.name, "uint8", ())
    dtype = DTYPES.get(node.type)
    what = "input" if leave_out is None else "output"
    if dtype is None:
        remedy = "expected a tensor of plain numbers" + (
            "" if leave_out is None else f"; leave it out: leave_out: [{', '.join(sorted({*leave_out, node.name}))}]"
        )
        raise ModelError(f"{path}: {what} {node.name} is a {node.type}, which the engine does not take; {remedy}")
    if dtype == BFLOAT16:
        _check_bfloat16(path, f"{what} {node.name}")
    # An axis without a name is None, "" or a made-up name, depending on version and file. 0 is a number.
    return TensorAxes(node.name, dtype, tuple(None if axis == "" else axis for axis in node.shape))


def _check_bfloat16(path: Path, what: str) -> None:
    """Refuse a tensor of bfloat16 before anything starts, if it could not be run.

    Raises:
        ModelError: onnxruntime is too old, or ml_dtypes is missing.
    """
    try:
        numpy_dtype(BFLOAT16)
    except TypeError as error:
        raise ModelError(f"{path}: {what}: {error}") from None
    # It came together with the number of a type in place of numpy's.
    if not hasattr(ort.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise ModelError(
            f"{path}: {what} is a tensor(bfloat16), which onnxruntime takes from 1.20 on; found {ort.__version__}: "
            f"pip install 'onnxruntime>=1.20'"
        )
