"""Schemas: the bodies of the gateway's calls, as JSON Schema within the OpenAPI document. Pure.

Those that belong to one loaded model are made by `model_request`, whose names, datatypes and shapes are the model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.kserve.datatypes import BYTES, DATATYPES
from pipeline.kserve.model import Model, axes_of, datatype_of, dims_of
from pipeline.kserve.settings import LOG_SETTINGS, TRACE_SETTINGS
from pipeline.kserve.values import DEFAULT
from pipeline.wire.interface import Tensor
from shm.handle import JSON

__all__ = ["SCHEMAS", "example_of", "model_request", "ref"]

#: Elements of an example, at most; an input that needs more is shown with its bytes behind the JSON.
_SHOWN = 64
_MOST = 2**63 - 1
#: They have no form in JSON.
_NO_JSON = ("FP16", "BF16")


def ref(name: str) -> dict[str, str]:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return found | {"required": list(required)} if required else found


def _list(items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": dict(items), **more}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_SIZE = {"type": "integer", "minimum": 0, "maximum": _MOST}
_BOOL = {"type": "boolean"}
_SHAPE = _list(_SIZE, maxItems=DEFAULT.rank)
_FREE_SHAPE = _list({"type": "integer", "minimum": -1})
_DATATYPE = {"type": "string", "enum": list(DATATYPES)}
_DATA = {
    "type": "array",
    "description": "Elements in row-major order, flat or nested as the shape is: numbers, booleans, strings for BYTES.",
    "items": {},
}
_PARAMETER = {
    "oneOf": [
        _TEXT,
        _BOOL,
        {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1},
        {"type": "number", "not": {"type": "integer"}},
    ]
}
_REGION = {
    "shared_memory_region": {"type": "string", "minLength": 1, "description": "The name of a registered region."},
    "shared_memory_byte_size": _COUNT,
    "shared_memory_offset": _COUNT,
}


def _parameters(description: str, **known: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": known,
        "additionalProperties": ref("Parameter"),
        "maxProperties": DEFAULT.parameters,
    }


def _tensor(data: str) -> dict[str, Any]:
    return _object(
        ("name", "datatype", "shape"),
        name=_TEXT,
        datatype=_DATATYPE,
        shape=_SHAPE,
        parameters=_parameters(
            data,
            binary_data_size={**_COUNT, "description": "Bytes of this tensor behind the JSON."},
            **_REGION,
        ),
        data=_DATA,
    )


def _total() -> dict[str, str]:
    return ref("Total")


_SETTINGS = {bool: _BOOL, int: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, str: _TEXT}
_LEVELS = {"oneOf": [_TEXT, _list(_TEXT)]}

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "Error": _object(("error",), error={"type": "string", "description": "What was expected, and what was found."}),
    "Parameter": _PARAMETER,
    "Server": _object(("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "Welcome": _object(("name", "page", "openapi", "v2"), name=_TEXT, page=_TEXT, openapi=_TEXT, v2=_TEXT),
    "TensorMetadata": _object(
        ("name", "datatype", "shape"), name=_TEXT, datatype=_DATATYPE,
        shape={**_FREE_SHAPE, "description": "With the batch axis, if the model has one; -1: free."},
    ),
    "Model": _object(
        ("name", "versions", "platform", "inputs", "outputs"), name=_TEXT, versions=_list(_TEXT), platform=_TEXT,
        inputs=_list(ref("TensorMetadata")), outputs=_list(ref("TensorMetadata")),
    ),
    "TensorConfig": _object(
        ("name", "data_type", "dims"), name=_TEXT, data_type={"enum": [row.config for row in DATATYPES.values()]},
        dims={**_FREE_SHAPE, "description": "Without the batch axis."}, is_shape_tensor=_BOOL,
        allow_ragged_batch=_BOOL, optional=_BOOL,
    ),
    "ModelConfig": _object(
        ("name", "max_batch_size", "input", "output"), name=_TEXT, platform=_TEXT, backend=_TEXT,
        max_batch_size={**_COUNT, "description": "Rows of the largest request; 0: there is no batch axis."},
        input=_list(ref("TensorConfig")), output=_list(ref("TensorConfig")),
        model_transaction_policy=_object(("decoupled",), decoupled=_BOOL),
        version_policy={"type": "object"}, dynamic_batching={"type": "object"},
    ),
    "Total": _object(("count", "ns"), count=_COUNT, ns={**_COUNT, "description": "Nanoseconds in all."}),
    "ModelStatistics": _object(
        ("name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"),
        name=_TEXT, version=_TEXT, last_inference={**_COUNT, "description": "Milliseconds since 1970; 0: never."},
        inference_count={**_COUNT, "description": "Rows."}, execution_count={**_COUNT, "description": "Batches."},
        inference_stats=_object(
            ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
            success=_total(), fail=_total(), queue=_total(), compute_input=_total(), compute_infer=_total(),
            compute_output=_total(), cache_hit=_total(), cache_miss=_total(),
        ),
        batch_stats=_list(
            _object(
                ("batch_size", "compute_infer"), batch_size=_COUNT, compute_input=_total(), compute_infer=_total(),
                compute_output=_total(),
            )
        ),
        memory_usage=_list({}), response_stats={"type": "object"},
    ),
    "Statistics": _object(("model_stats",), model_stats=_list(ref("ModelStatistics"))),
    "InferInput": _tensor(
        "Exactly one of `data`, `binary_data_size` here, and `shared_memory_region` with `shared_memory_byte_size` "
        "here says where the elements are."
    ),
    "InferOutput": _tensor("Where the elements are, if they are not in `data`."),
    "RequestedOutput": _object(
        ("name",), name=_TEXT,
        parameters=_parameters(
            "How this output is answered.",
            binary_data={"type": "boolean", "description": "As bytes behind the JSON."},
            classification={**_COUNT, "description": "As the largest values, so many, as text VALUE:INDEX."},
            **_REGION,
        ),
    ),
    "InferRequest": _object(
        ("inputs",), id=_TEXT,
        inputs=_list(ref("InferInput"), maxItems=DEFAULT.tensors),
        outputs={**_list(ref("RequestedOutput"), maxItems=DEFAULT.tensors), "description": "Without it: all outputs."},
        parameters=_parameters(
            "Of the whole request.",
            binary_data_output={"type": "boolean", "description": "All outputs as bytes behind the JSON."},
            timeout={**_COUNT, "description": "Microseconds after which the answer is not wanted; 0: none."},
            priority={**_COUNT, "description": "1 is the first; 0: the pipeline's default."},
        ),
    ),
    "InferResponse": _object(
        ("model_name", "model_version", "outputs"), id=_TEXT, model_name=_TEXT, model_version=_TEXT,
        outputs=_list(ref("InferOutput")), parameters={"type": "object"},
    ),
    "IndexRequest": _object(ready={"type": "boolean", "description": "Only models that are ready."}),
    "Index": _list(
        _object(
            ("name",), name=_TEXT, version=_TEXT, state={"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            reason={"type": "string", "description": "Why it is not ready."},
        )
    ),
    "LoadRequest": _object(
        parameters={"type": "object", "description": "`config` and `file:...` are refused: a config is code."}
    ),
    "UnloadRequest": _object(parameters={"type": "object"}),
    "Region": _object(
        ("name", "key", "offset", "byte_size"), name=_TEXT, key=_TEXT, offset=_COUNT, byte_size=_COUNT
    ),
    "Regions": _list(ref("Region")),
    "RegisterRequest": _object(
        ("key", "byte_size"), key={"type": "string", "description": "The name of an object of shm_open."},
        offset=_SIZE, byte_size=_SIZE,
    ),
    "TraceSettings": _object(**dict.fromkeys(TRACE_SETTINGS, _LEVELS)),
    "LogSettings": _object(**{name: _SETTINGS[type(value)] for name, value in LOG_SETTINGS.items()}),
    "TraceChange": {
        "type": "object", "propertyNames": {"enum": list(TRACE_SETTINGS)},
        "description": "Settings that are left out stay as they are; null sets one back.",
    },
    "LogChange": {
        "type": "object",
        "properties": {name: _SETTINGS[type(value)] for name, value in LOG_SETTINGS.items()},
        "additionalProperties": False,
    },
    "Zones": _object(
        ("zones",),
        zones={
            "type": "object",
            "description": "By name: at least three corners [x, y], in fractions of the frame.",
            "additionalProperties": _list(_list({"type": "number"}, minItems=2, maxItems=2), minItems=3),
        },
        tag={"type": "string", "description": "That of the config in which they were changed."},
    ),
}  # fmt: skip
"""By name."""


def model_request(model: Model) -> dict[str, Any]:
    """The request of one model: an `InferRequest` with exactly its inputs."""
    inputs = [_input(model, tensor) for tensor in model.interface.inputs]
    outputs = [tensor.name for tensor in model.interface.outputs]
    return {
        "allOf": [ref("InferRequest")],
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": _list({"oneOf": inputs} if len(inputs) > 1 else inputs[0] if inputs else {})
            | {"minItems": len(inputs), "maxItems": len(inputs)},
            "outputs": _list({"properties": {"name": {"enum": outputs}}}),
        },
    }


def _input(model: Model, tensor: Tensor) -> dict[str, Any]:
    """An input of this name, datatype and shape."""
    extents: list[dict[str, Any]] = []
    if model.max_batch_size:
        extents.append({"type": "integer", "minimum": 1, "maximum": model.max_batch_size, "description": "The batch."})
    if tensor.dtype == JSON:
        extents.append({"const": 1})
    else:
        for axis in axes_of(tensor):
            free = {"type": "integer", "minimum": 0, "maximum": axis.most, "description": axis.name}
            extents.append(free if axis.name else {"const": axis.most})
    shape: dict[str, Any] = {"type": "array", "minItems": len(extents), "maxItems": len(extents)}
    if extents:
        shape["prefixItems"] = extents
    fixed = _object(
        ("name", "datatype", "shape"),
        name={"const": tensor.name},
        datatype={"const": datatype_of(tensor).name},
        shape=shape,
    )
    return {"allOf": [ref("InferInput")], **fixed}


def example_of(model: Model) -> dict[str, Any]:
    """A request as this model takes it: free extents are 1, elements 0 or empty; large inputs go behind the JSON."""
    inputs = []
    for tensor in model.interface.inputs:
        kind = datatype_of(tensor)
        shape = [1 if extent == -1 else extent for extent in dims_of(tensor)]
        shape = [1, *shape] if model.max_batch_size else shape
        count = math.prod(shape)
        document: dict[str, Any] = {"name": tensor.name, "datatype": kind.name, "shape": shape}
        if kind.name in _NO_JSON or count > _SHOWN:
            document["parameters"] = {"binary_data_size": count * (kind.itemsize or 4)}
        else:
            text = "{}" if tensor.dtype == JSON else ""
            element: Any = text if kind.name == BYTES else False if kind.name == "BOOL" else 0
            document["data"] = [element] * count
        inputs.append(document)
    return {"inputs": inputs}
