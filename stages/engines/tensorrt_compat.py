"""Where TensorRT 8.5 to 11 and TensorRT-RTX differ. Everything else in the engine is the same for all.

                              8.5 - 9                         10 and later              TensorRT-RTX
    module                    tensorrt                        tensorrt                  tensorrt_rtx
    network                   flag EXPLICIT_BATCH             the only kind             strongly typed
    fp16                      builder flag                    builder flag, if any      as the model's own types
    scratch of a context      create_..._without_device_memory, device_memory_size  |  USER_MANAGED, ..._size_v2
"""

from __future__ import annotations

import importlib
from typing import Any

from stages.errors import ModelError

__all__ = [
    "PRECISIONS",
    "context_without_scratch",
    "load_library",
    "new_network",
    "scratch_bytes",
    "set_precision",
    "set_scratch",
    "spell_version",
]

PRECISIONS = ("fp32", "fp16")
"""From the most exact to the fastest."""

_LIBRARIES = ("tensorrt", "tensorrt_rtx")


def load_library() -> Any:
    """The module `tensorrt`, or `tensorrt_rtx` where only that is installed.

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


def new_network(trt: Any, builder: Any) -> Any:
    """An empty network whose tensors have their batch axis."""
    flags = trt.NetworkDefinitionCreationFlag
    if trt.__name__ == "tensorrt_rtx":
        return builder.create_network(1 << int(flags.STRONGLY_TYPED))
    return builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)


def set_precision(trt: Any, config: Any, precision: str) -> None:
    """Allow `precision` in what is built with `config`.

    Raises:
        ModelError: this library takes precision from the model alone.
    """
    if precision == "fp32":
        # TF32 has 10 bits of mantissa; fp32 is what was asked for.
        config.clear_flag(trt.BuilderFlag.TF32)
    elif not hasattr(trt.BuilderFlag, "FP16"):
        raise ModelError(
            f"{spell_version(trt)} computes in the types that the model has; for {precision}, convert the model"
        )
    else:
        config.set_flag(trt.BuilderFlag.FP16)


def scratch_bytes(engine: Any) -> int:
    """Device memory that a context needs while it runs."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def context_without_scratch(trt: Any, engine: Any) -> Any:
    """A context that runs in memory of the caller's: see `set_scratch`."""
    if hasattr(trt, "ExecutionContextAllocationStrategy"):
        return engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    return engine.create_execution_context_without_device_memory()


def set_scratch(context: Any, address: int, nbytes: int) -> None:
    """Give a context the memory that it runs in."""
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(address, nbytes)
    else:
        context.device_memory = address
