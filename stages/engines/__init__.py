"""Engines by name. Each is imported when it is asked for, so that one whose library is absent costs nothing."""

from __future__ import annotations

import importlib

from stages.engines.engine import Engine
from stages.errors import BadOption, ModelError

__all__ = ["ENGINES", "engine_class"]

#: Name in the YAML -> module:class.
ENGINES = {"onnxruntime": "stages.engines.onnxruntime:OnnxRuntime"}

#: What "auto" stands for.
RECOMMENDED = "onnxruntime"


def engine_class(name: str) -> type[Engine]:
    """The engine of that name, or the recommended one for "auto".

    Raises:
        BadOption: there is none of that name.
        ModelError: its library is not installed.
    """
    name = RECOMMENDED if name == "auto" else name
    try:
        module, attribute = ENGINES[name].split(":")
    except KeyError:
        raise BadOption(f"engine {name!r}: expected one of auto, {', '.join(ENGINES)}") from None
    try:
        engine: type[Engine] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ModelError(f"engine {name!r} cannot be used here: {error}") from error
    return engine
