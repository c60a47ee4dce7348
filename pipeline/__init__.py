"""Processes, sockets, files and signals: a YAML file becomes a running inference pipeline.

    import pipeline

    manager = pipeline.InferenceManager("configs/mnist.yaml")      starts models, and ends them with this program
    manager = pipeline.connect("mnist")                            asks those that others have started
    manager = await pipeline.connect_async("mnist")                the same in an asyncio loop
    manager = pipeline.RemoteInferenceManager("grpc://host:8001")  asks those of a server of KServe v2

What these names need is imported when one of them is first used: the processes of a run import modules of this package,
and none of them needs a manager. Errors are in `pipeline.errors`; a test needs `pipeline.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.remote.aio import AsyncRemoteInferenceManager
    from pipeline.remote.models import RemoteInferenceManager
    from pipeline.repository.aio import connect_async
    from pipeline.repository.connected import connect
    from pipeline.repository.inference import InferenceManager

__all__ = ["AsyncRemoteInferenceManager", "InferenceManager", "RemoteInferenceManager", "connect", "connect_async"]

_MODULES = {
    "AsyncRemoteInferenceManager": "pipeline.remote.aio",
    "InferenceManager": "pipeline.repository.inference",
    "RemoteInferenceManager": "pipeline.remote.models",
    "connect": "pipeline.repository.connected",
    "connect_async": "pipeline.repository.aio",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # Kept, so that the next use does not come here.
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
