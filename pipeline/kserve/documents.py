"""Documents: what the calls beside inference answer, as plain dictionaries. Pure.

Over HTTP they are the JSON; over gRPC `messages.filled` makes the message of them. The index is a list over HTTP, and
`{"models": [...]}` over gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from pipeline.kserve.model import Model, datatype_of, dims_of, shape_of
from pipeline.wire.interface import Tensor

__all__ = [
    "INTERFACE",
    "BatchCounts",
    "IndexEntry",
    "ModelCounts",
    "Total",
    "model_config",
    "model_metadata",
    "repository_index",
    "server_metadata",
    "statistics",
]

INTERFACE = "trtlab"
"""The parameter of a config by which a gateway of ours tells the pipeline's interface, as JSON: what KServe has no
words for, such as documents of JSON, and names and maxima of free dimensions."""

_PLATFORM = "trtlab"
#: Spoken whatever the config says. perf_analyzer asks for statistics only if they are here.
_EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "trace",
)


def server_metadata(name: str, version: str, shared_memory: bool) -> dict[str, Any]:
    """Of the server.

    Args:
        shared_memory: whether clients may register system shared memory.
    """
    extensions = (*_EXTENSIONS, "system_shared_memory") if shared_memory else _EXTENSIONS
    return {"name": name, "version": version, "extensions": list(extensions)}


def model_metadata(model: Model, versions: Sequence[str] = ()) -> dict[str, Any]:
    """Of a model: shapes with the batch axis, and -1 for what is free.

    Args:
        versions: all that are ready; empty: this one.
    """

    def described(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
        return [
            {"name": tensor.name, "datatype": datatype_of(tensor).name, "shape": list(shape_of(model, tensor))}
            for tensor in tensors
        ]

    return {
        "name": model.name,
        "versions": list(versions) or [model.version],
        "platform": _PLATFORM,
        "inputs": described(model.interface.inputs),
        "outputs": described(model.interface.outputs),
    }


def model_config(model: Model) -> dict[str, Any]:
    """The config as clients read it: dims without the batch axis."""
    config: dict[str, Any] = {
        "name": model.name,
        "platform": _PLATFORM,
        "backend": "",
        "max_batch_size": model.max_batch_size,
        "input": [
            {
                "name": tensor.name,
                "data_type": datatype_of(tensor).config,
                "dims": list(dims_of(tensor)),
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
            }
            for tensor in model.interface.inputs
        ],
        "output": [
            {
                "name": tensor.name,
                "data_type": datatype_of(tensor).config,
                "dims": list(dims_of(tensor)),
                "is_shape_tensor": False,
            }
            for tensor in model.interface.outputs
        ],
        "model_transaction_policy": {"decoupled": model.decoupled},
        "parameters": {INTERFACE: {"string_value": msgspec.json.encode(model.interface).decode()}},
    }
    if model.version.isdecimal() and len(model.version) < 19:
        config["version_policy"] = {"specific": {"versions": [int(model.version)]}}
    if model.max_batch_size:
        # Batches form in the pipeline, from requests of any clients: to a client that is dynamic batching.
        config["dynamic_batching"] = {}
    return config


class IndexEntry(NamedTuple):
    """A model of the repository."""

    name: str
    version: str = ""
    """Empty, and so are the others: it was never loaded."""
    state: str = ""
    """READY, UNAVAILABLE, LOADING or UNLOADING."""
    reason: str = ""


def repository_index(entries: Iterable[IndexEntry], ready: bool = False) -> list[dict[str, str]]:
    """The models, each with the fields that have a value.

    Args:
        ready: only those that are.
    """
    return [
        {name: value for name, value in entry._asdict().items() if value}
        for entry in entries
        if not ready or entry.state == "READY"
    ]


@dataclass(frozen=True, slots=True)
class Total:
    """How often something happened, and how long it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Executions of one batch size."""

    size: int
    executions: int
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """What a model has done since it began."""

    name: str
    version: str
    last_inference_ms: int = 0
    """Since 1970; 0: never."""
    rows: int = 0
    executions: int = 0
    """Batches: rows / executions is their mean size."""
    success: Total = Total()
    fail: Total = Total()
    queue: Total = Total()
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    batches: tuple[BatchCounts, ...] = ()


def statistics(models: Iterable[ModelCounts]) -> dict[str, Any]:
    """Of models. The counts of the three parts of computing are equal, as perf_analyzer needs them."""
    return {"model_stats": [_of_model(counts) for counts in models]}


def _total(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def _of_model(counts: ModelCounts) -> dict[str, Any]:
    computed = counts.success.count
    return {
        "name": counts.name,
        "version": counts.version,
        "last_inference": counts.last_inference_ms,
        "inference_count": counts.rows,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": _total(counts.success.count, counts.success.ns),
            "fail": _total(counts.fail.count, counts.fail.ns),
            "queue": _total(counts.queue.count, counts.queue.ns),
            "compute_input": _total(computed, counts.input_ns),
            "compute_infer": _total(computed, counts.infer_ns),
            "compute_output": _total(computed, counts.output_ns),
            "cache_hit": _total(0, 0),
            "cache_miss": _total(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": batch.size,
                "compute_input": _total(batch.executions, batch.input_ns),
                "compute_infer": _total(batch.executions, batch.infer_ns),
                "compute_output": _total(batch.executions, batch.output_ns),
            }
            for batch in counts.batches
        ],
        "memory_usage": [],
        "response_stats": {},
    }
