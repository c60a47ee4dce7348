"""Where TensorRT 8.5 to 11 and TensorRT-RTX differ. Everything else in the engine is the same for all.

                              8.5 - 9               10                        11               TensorRT-RTX
    module                    tensorrt              tensorrt                  tensorrt         tensorrt_rtx
    network                   flag EXPLICIT_BATCH   the only kind             the only kind    flag STRONGLY_TYPED
    fp16                      builder flag          builder flag              as the model's   as the model's
    int8                      flag, calibrator      flag, calibrator          as the model's   as the model's
                              or Q/DQ nodes         or Q/DQ nodes             Q/DQ nodes       Q/DQ nodes
    scratch of a context      create_execution_     strategy USER_MANAGED     USER_MANAGED     USER_MANAGED
                              context_without_...
    its size                  device_memory_size    the same, ..._v2 (10.1)   ..._v2           ..._v2
    giving it                 .device_memory = x    set_device_memory (10.1)  the same         the same
    a profile for several     no                    yes                       yes              yes
    contexts of an engine

`make check-tensorrt` compares all of this, and the types in the engine, with the bindings of each of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stages.errors import ModelError

if TYPE_CHECKING:
    import tensorrt

__all__ = [
    "PRECISIONS",
    "content_of",
    "context_without_scratch",
    "extents_of",
    "load_library",
    "new_network",
    "scratch_bytes",
    "set_precision",
    "set_scratch",
    "shares_profiles",
    "spell_version",
    "wants_calibration",
]

PRECISIONS = ("fp32", "fp16", "int8")
"""From the most exact to the fastest."""

_LIBRARIES = ("tensorrt", "tensorrt_rtx")


def load_library() -> Any:
    """The module `tensorrt`, or `tensorrt_rtx` if only that is installed.

    Raises:
        ModelError: neither is.
    """
    why = []
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            why.append(str(error))
    raise ModelError(f"TensorRT is not installed ({'; '.join(why)}); install trtlab[gpu], or tensorrt-rtx-cu13")


def spell_version(trt: Any) -> str:
    """What a plan's name says: a plan runs with the very version that built it: trt-8.5.3.1, rtx-1.7.1.116."""
    return f"{'rtx' if trt.__name__ == 'tensorrt_rtx' else 'trt'}-{trt.__version__}"


def new_network(trt: Any, builder: tensorrt.Builder) -> tensorrt.INetworkDefinition:
    """An empty network whose tensors have their batch axis."""
    flags = trt.NetworkDefinitionCreationFlag
    if trt.__name__ == "tensorrt_rtx":
        return builder.create_network(1 << int(flags.STRONGLY_TYPED))
    return builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)


def wants_calibration(trt: Any, network: tensorrt.INetworkDefinition) -> bool:
    """Whether int8 needs a calibrator: the model has no quantisation of its own, and the library would calibrate.

    Raises:
        ModelError: it needs one, and this library has none.
    """
    if any(network.get_layer(number).type == trt.LayerType.QUANTIZE for number in range(network.num_layers)):
        return False
    if not hasattr(trt, "IInt8EntropyCalibrator2"):
        raise ModelError(
            f"{spell_version(trt)} does not calibrate; for int8, give it a model that is quantised already, "
            "with QuantizeLinear and DequantizeLinear nodes"
        )
    return True


def set_precision(trt: Any, config: Any, precision: str, calibrator: Any = None) -> None:
    """Allow `precision` in what is built with `config`, an IBuilderConfig.

    Args:
        calibrator: for int8, if `wants_calibration`.

    Raises:
        ModelError: this library takes precision from the model alone.
    """
    flags = trt.BuilderFlag
    if precision == "fp32":
        # TF32 has 10 bits of mantissa; fp32 is what was asked for.
        config.clear_flag(flags.TF32)
    elif hasattr(flags, "FP16"):
        config.set_flag(flags.FP16)  # with int8 too: for the layers that int8 has no kernels for
        if precision == "int8":
            config.set_flag(flags.INT8)
            if calibrator is not None:
                config.int8_calibrator = calibrator
    elif precision == "fp16":
        raise ModelError(
            f"{spell_version(trt)} computes in the types that the model has; for {precision}, convert the model"
        )


def extents_of(dims: tensorrt.Dims) -> tuple[int, ...]:
    """A shape as a tuple."""
    return tuple(dims[axis] for axis in range(len(dims)))


def content_of(memory: Any) -> bytes:
    """The bytes of an IHostMemory."""
    return bytes(memory)


def shares_profiles(trt: Any) -> bool:
    """Whether several contexts of one engine may use the same optimization profile at once."""
    return hasattr(trt, "ExecutionContextAllocationStrategy")


def scratch_bytes(engine: Any) -> int:
    """Device memory that a context of an ICudaEngine needs while it runs."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def context_without_scratch(trt: Any, engine: Any) -> tensorrt.IExecutionContext:
    """A context of an ICudaEngine that runs in memory of the caller's: see `set_scratch`."""
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    else:
        context = engine.create_execution_context_without_device_memory()
    found: tensorrt.IExecutionContext = context
    return found


def set_scratch(context: Any, address: int, nbytes: int) -> None:
    """Give an IExecutionContext the memory that it runs in."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(address, nbytes)
    else:
        context.device_memory = address
