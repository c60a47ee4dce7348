"""Engines by name. Each is imported when it is needed, so that an engine without its library costs nothing."""

from __future__ import annotations

import importlib
from pathlib import Path

from stages.engines.cuda import device_name
from stages.engines.engine import DEFAULTS, Engine, EngineOptions
from stages.engines.plans import fitting_plans, gpu_slug, plans_of
from stages.engines.tensorrt.compat import load_library, spell_version
from stages.errors import BadOption, ModelError

__all__ = ["ENGINES", "choose_engine", "engine_class"]

#: Name in the YAML -> module:class.
ENGINES = {
    "onnxruntime": "stages.engines.onnxruntime:OnnxRuntime",
    "tensorrt": "stages.engines.tensorrt.engine:TensorRt",
}


def engine_class(name: str, model: Path | None = None, options: EngineOptions = DEFAULTS) -> type[Engine]:
    """The engine of that name; for "auto" the fastest that can run `model` here.

    Raises:
        BadOption: there is no engine of that name.
        ModelError: its library is not installed.
    """
    if name == "auto":
        name = "onnxruntime" if model is None else choose_engine(model, options)[0]
    try:
        module, attribute = ENGINES[name].split(":")
    except KeyError:
        raise BadOption(f"engine {name!r}: expected one of auto, {', '.join(ENGINES)}") from None
    try:
        engine: type[Engine] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ModelError(f"engine {name!r} cannot be used here: {error}") from error
    return engine


def choose_engine(model: Path, options: EngineOptions = DEFAULTS) -> tuple[str, str]:
    """The name of the fastest engine that can run a model here, and why a faster one cannot ("" if none was expected).

    If plans of a model of that name were built for a GPU and cannot be used, the reason is given.
    """
    # The cheapest test first: a GPU without plans must not make every start slower.
    plans = plans_of(model.stem)
    gpu = device_name() if plans else None
    if gpu is None:
        return "onnxruntime", ""
    try:
        fitting_plans(model, plans, gpu_slug(gpu), spell_version(load_library()), options.precision)
    except ModelError as error:
        return "onnxruntime", f"on the CPU, though there is a GPU: {error}"
    return "tensorrt", ""
