"""Builds a TensorRT plan out of an ONNX file: one batch size, one precision, for the GPU of this machine.

`pipeline build` calls it. TensorRT tries every kernel on the GPU and so needs one; TensorRT-RTX leaves the
last step to where the plan is loaded, and builds anywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.engines import tensorrt_compat as compat
from stages.engines.cuda import device_name
from stages.engines.engine import TensorAxes
from stages.engines.plans import ANY_GPU, Plan, gpu_slug
from stages.errors import ModelError

__all__ = ["build_plan", "target"]


def target() -> tuple[str, str]:
    """(GPU, version) that plans built here are for.

    Raises:
        ModelError: no TensorRT is installed, or it needs a GPU and there is none.
    """
    trt = compat.load_library()
    version = compat.spell_version(trt)
    if trt.__name__ == "tensorrt_rtx":
        return ANY_GPU, version
    name = device_name()
    if name is None:
        raise ModelError(f"{version} builds plans for the GPU of the machine it runs on, and there is none here")
    return gpu_slug(name), version


def build_plan(model: Path, wanted: Plan, timing_cache: Path | None = None) -> tuple[Plan, bytes]:
    """Build one plan; takes tens of seconds.

    Args:
        model: the .onnx file.
        wanted: what to build; its tensors are still to be found.
        timing_cache: file that keeps what was measured, for the next plan of the same layers.

    Returns:
        `wanted` with its tensors, and the plan's bytes.

    Raises:
        ModelError: the model cannot be read, or cannot be built so.
    """
    trt = compat.load_library()
    log = _Log(trt)
    builder = trt.Builder(log.logger)
    network = compat.new_network(trt, builder)
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(model.read_bytes()):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"{model}: {wanted.version} cannot read it: {errors}")
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        tensor.shape = _fixed(model, tensor, wanted.batch)
    config = builder.create_builder_config()
    compat.set_precision(trt, config, wanted.precision)
    # Kernels of TensorRT's own: cuBLAS and cuDNN need not be there, and later versions leave them out as well.
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
    for name in ("avg_timing_iterations", "min_timing_iterations"):
        if hasattr(config, name):
            setattr(config, name, 1)
    if timing_cache is not None:
        known = timing_cache.read_bytes() if timing_cache.is_file() else b""
        cache = config.create_timing_cache(known)
        config.set_timing_cache(cache, ignore_mismatch=False)
    content = builder.build_serialized_network(network, config)
    if content is None:
        raise ModelError(f"{model}: {wanted.version} could not build it: {log.last}")
    if timing_cache is not None:
        timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    inputs = tuple(_axes(model, trt, network.get_input(i)) for i in range(network.num_inputs))
    outputs = tuple(_axes(model, trt, network.get_output(i)) for i in range(network.num_outputs))
    return replace(wanted, inputs=inputs, outputs=outputs), bytes(content)


def _fixed(model: Path, tensor: Any, batch: int) -> tuple[int, ...]:
    first, *rest = tuple(tensor.shape)
    if first not in (-1, batch):
        raise ModelError(f"{model}: {tensor.name} was saved for batches of {first}, and {batch} was asked for")
    if -1 in rest:
        raise ModelError(
            f"{model}: {tensor.name} has a free dimension besides the batch, {[first, *rest]}; "
            "a plan has fixed shapes: save the model with that dimension fixed"
        )
    return (batch, *rest)


def _axes(model: Path, trt: Any, tensor: Any) -> TensorAxes:
    shape = tuple(tensor.shape)
    if -1 in shape:
        raise ModelError(f"{model}: the shape of output {tensor.name} depends on the data, {list(shape)}: no plan can")
    try:
        dtype = {"UINT8": "uint8"}.get(tensor.dtype.name) or trt.nptype(tensor.dtype)().dtype.name
    except TypeError as error:
        why = f"{tensor.name} is a {tensor.dtype.name}, which cannot lie in shared memory"
        raise ModelError(f"{model}: {why}") from error
    return TensorAxes(tensor.name, dtype, shape)


class _Log:
    """Keeps the last error: TensorRT returns None and logs why."""

    def __init__(self, trt: Any) -> None:
        severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
        self.last = "it did not say why"
        keep = self

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in severe:
                    keep.last = message

        self.logger = Logger()
