"""onnxruntime on the CPU: the engine that runs everywhere.

Inputs are read from, and outputs written to, the caller's memory (IO binding), so a tensor in a slot is
not copied on its way through the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from stages.engines.engine import NO_SHAPES, Engine, ModelSpecs, Shapes, TensorAxes, model_specs
from stages.errors import BadInput, ModelError, StageBroken
from stages.stage import Array

__all__ = ["OnnxRuntime", "declared_outputs", "metadata"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxRuntime(Engine):
    """Runs an .onnx file with onnxruntime's CPU provider."""

    _session: ort.InferenceSession | None = None

    @classmethod
    def describe(cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES) -> ModelSpecs:
        session = _open_to_look(path)
        return model_specs(
            path,
            [_axes(path, node) for node in session.get_inputs()],
            [_axes(path, node) for node in session.get_outputs()],
            max,
            shapes,
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
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for spec in self.specs.outputs:
            into = outputs.get(spec.name)
            if into is None:
                binding.bind_output(spec.name, "cpu")
            else:
                binding.bind_output(spec.name, "cpu", 0, into.dtype, into.shape, into.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            # onnxruntime's exceptions share no base. The model has loaded, and dtypes and shapes fit the specs:
            # what is left is a shape or a value that a node refuses.
            raise BadInput(f"{self.path.name} cannot compute this input: {error}") from error
        values = zip(self.specs.outputs, binding.get_outputs())
        return {spec.name: value.numpy() for spec, value in values if spec.name not in outputs}


def declared_outputs(path: Path) -> list[TensorAxes]:
    """A model's outputs as its file declares them, batch axis included.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return [_axes(path, node) for node in _open_to_look(path).get_outputs()]


def metadata(path: Path) -> dict[str, str]:
    """The texts that a model's file holds beside the model, by key.

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
    # A spinning thread takes the core from the next stage: 11 -> 23 ms a picture on two busy cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _open(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    if not path.is_file():
        raise ModelError(f"no model file {path}")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Damaged files, unknown operators and newer opsets each have an exception class of their own.
        raise ModelError(f"{path}: onnxruntime {ort.__version__} cannot load it: {error}") from error


def _axes(path: Path, node: Any) -> TensorAxes:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise ModelError(f"{path}: {node.name} is a {node.type}, which cannot lie in shared memory")
    # An axis without a name comes as None, as "" or as a made-up name, depending on the version and the file.
    return TensorAxes(node.name, dtype, tuple(axis or None for axis in node.shape))
