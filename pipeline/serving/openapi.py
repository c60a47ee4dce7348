"""OpenAPI: the document that tells tools every call of the HTTP port, at /openapi.json. Pure.

    endpoints.ENDPOINTS ──▶ paths, methods, the token      what can be called, and the routes are made of the same table
    _CALLS              ──▶ bodies, answers, errors        what each call takes and says
    models              ──▶ /v2/models/NAME/infer          with the names, datatypes and shapes of each that is loaded

The version is OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pipeline.kserve.http_body import HEADER
from pipeline.kserve.model import Model
from pipeline.kserve.statuses import STATUSES
from pipeline.serving.endpoints import ENDPOINTS, Endpoint
from pipeline.serving.openapi_schemas import SCHEMAS, example_of, model_request, ref

__all__ = ["document"]

_JSON = "application/json"
_BINARY = "application/octet-stream"
_NAME = re.compile(r"\{(\w+)\}")

#: Beside these, every call may be refused for its Host or Origin, fail in the server, or find it full.
_ALWAYS = ("PERMISSION_DENIED", "INTERNAL", "UNAVAILABLE")
_OF_BODY = ("INVALID_ARGUMENT", "TOO_LARGE", "DEADLINE_EXCEEDED")
#: Not CANCELLED: that is told to a caller that has hung up, which does not read it.
_OF_INFER = (*_OF_BODY, "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNSUPPORTED_MEDIA_TYPE")

_ABOUT = """\
Pipelines as models of KServe v2 (Open Inference Protocol), as NVIDIA Triton speaks it. Names, datatypes and shapes of
the models that are loaded are at their own paths, such as `/v2/models/NAME/infer`.

Tensors travel as JSON, or as bytes behind the JSON of the same body (the binary tensor extension): the header
`Inference-Header-Content-Length` says how many bytes the JSON has. The metrics are on a port of their own."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call takes and says."""

    tag: str
    summary: str
    answer: Any = None
    """The schema of its answer; None: its answer is empty."""
    body: str = ""
    """The name of the schema of its body; empty: it takes none."""
    errors: tuple[str, ...] = ()
    """Codes of `STATUSES`, beside `_ALWAYS` and those of its token; NOT_FOUND only where its path has a name."""
    refused: bool = False
    """Whether it always is, so that it has no answer."""


_CAMERAS = "Cameras"
_SHARED, _CUDA = "System shared memory", "CUDA shared memory"
_OF_MODEL = ("NOT_FOUND",)
_OF_TRACE = (*_OF_BODY, "NOT_FOUND", "UNIMPLEMENTED")

_CALLS: Mapping[str, _Call] = {
    "server_live": _Call("Server", "Whether the gateway answers"),
    "server_ready": _Call("Server", "Whether all models are ready", errors=("INVALID_ARGUMENT",)),
    "server_metadata": _Call("Server", "Name, version and extensions of the server", ref("Server")),
    "page": _Call("Page", "The live page, for browsers; for other callers, where things are", ref("Welcome")),
    "asset": _Call("Page", "A file of the live page", errors=("NOT_FOUND",)),
    "openapi": _Call("Page", "This document", {"type": "object"}),
    "model_ready": _Call("Models", "Whether a model is ready; the error says why not", errors=("INVALID_ARGUMENT",)),
    "model_metadata": _Call("Models", "Inputs and outputs of a model", ref("Model"), errors=_OF_MODEL),
    "model_config": _Call("Models", "Config of a model", ref("ModelConfig"), errors=_OF_MODEL),
    "statistics": _Call("Models", "Counts and times of a model", ref("Statistics"), errors=("INVALID_ARGUMENT",)),
    "all_statistics": _Call("Models", "Counts and times of all models", ref("Statistics")),
    "infer": _Call("Inference", "Ask a model", ref("InferResponse"), "InferRequest", _OF_INFER),
    "index": _Call("Repository", "All models that are known, with their state", ref("Index"), "IndexRequest", _OF_BODY),
    "load": _Call("Repository", "Load or reload a model", None, "LoadRequest", _OF_BODY),
    "unload": _Call("Repository", "Unload a model", None, "UnloadRequest", _OF_BODY),
    "region_status": _Call(_SHARED, "The registered regions", ref("Regions"), errors=_OF_MODEL),
    "region_register": _Call(
        _SHARED, "Register a region", None, "RegisterRequest", (*_OF_BODY, "RESOURCE_EXHAUSTED")
    ),
    "region_unregister": _Call(_SHARED, "Unregister a region, or all"),
    "cuda_status": _Call(_CUDA, "The registered regions: none", ref("Regions"), errors=_OF_MODEL),
    "cuda_register": _Call(_CUDA, "Not there", errors=("UNIMPLEMENTED",), refused=True),
    "cuda_unregister": _Call(_CUDA, "Unregister a region, or all: there are none"),
    "trace": _Call("Settings", "The trace settings", ref("TraceSettings"), "TraceChange", _OF_TRACE),
    "log": _Call("Settings", "The log settings", ref("LogSettings"), "LogChange", _OF_BODY),
    "cameras": _Call(_CAMERAS, "The page of the cameras, for browsers"),
    "cameras_state": _Call(_CAMERAS, "How each camera is", {"type": "object"}),
    "cameras_events": _Call(_CAMERAS, "The newest events, with their recordings", {"type": "object"}),
    "cameras_stream": _Call(_CAMERAS, "Pictures and documents of all cameras, without end (multipart)"),
    "camera_picture": _Call(_CAMERAS, "The newest picture of a camera", errors=_OF_MODEL),
    "camera_stream": _Call(_CAMERAS, "The pictures of a camera, without end (multipart, MJPEG)", errors=_OF_MODEL),
    "camera_file": _Call(_CAMERAS, "A clip or a snapshot", errors=_OF_MODEL),
    "camera_pause": _Call(_CAMERAS, "Pause a camera", {"type": "object"}, errors=_OF_MODEL),
    "camera_resume": _Call(_CAMERAS, "Go on with a camera", {"type": "object"}, errors=_OF_MODEL),
    "camera_zones": _Call(_CAMERAS, "The zones of a camera", {"type": "object"}, errors=_OF_MODEL),
    "camera_edit": _Call(
        _CAMERAS, "Write the zones of a camera", {"type": "object"}, "Zones", (*_OF_BODY, "NOT_FOUND")
    ),
}  # fmt: skip

#: What is no JSON: media types.
_BINARIES = {
    "asset": "*/*", "cameras": "text/html", "cameras_stream": "multipart/x-mixed-replace",
    "camera_stream": "multipart/x-mixed-replace", "camera_picture": "image/jpeg", "camera_file": "*/*",
}  # fmt: skip

_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "model": {"description": "The name of a model."},
    "version": {"description": "Its version."},
    "region": {"description": "The name of a region of shared memory."},
    "asset": {"description": "The name of a file of the page."},
    "camera": {"description": "The name of a camera."},
    "file": {"description": "The name of a clip or a snapshot."},
}


def document(models: Iterable[Model], version: str, *, token: bool) -> dict[str, Any]:
    """The document, as JSON can have it.

    Args:
        models: those that are loaded.
        version: of the server.
        token: whether calls need one.
    """
    loaded = list(models)
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        if endpoint.http and endpoint.port == "http":
            for number, path in enumerate(endpoint.paths):
                # Two rows may have one path, for other methods.
                paths[path] = paths.get(path, {}) | _methods(endpoint, path, number, token, loaded)
    schemas = dict(SCHEMAS)
    for model in loaded:
        # A decoupled model is asked over gRPC only.
        if not model.decoupled:
            path, methods, schema = _own_path(model, token)
            paths[path] = methods
            schemas[schema] = model_request(model)
    components: dict[str, Any] = {"schemas": schemas}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    tags = dict.fromkeys([call.tag for call in _CALLS.values()])
    return {
        "openapi": "3.1.0",
        "info": {"title": "trtlab", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": components,
    }


def _methods(endpoint: Endpoint, path: str, number: int, token: bool, models: list[Model]) -> dict[str, Any]:
    """What a path has: its parameters, and each of its methods."""
    found: dict[str, Any] = {}
    if names := _NAME.findall(path):
        found["parameters"] = [_path_parameter(name, models) for name in names]
    for method in endpoint.http:
        found[method.lower()] = _operation(endpoint, method, path, number, token)
    return found


def _path_parameter(name: str, models: list[Model]) -> dict[str, Any]:
    parameter = {
        "name": name, "in": "path", "required": True, **_PARAMETERS[name],
        "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
    }  # fmt: skip
    values = {"model": [model.name for model in models], "version": [model.version for model in models]}.get(name)
    if values:
        parameter["examples"] = {value: {"value": value} for value in values}
    return parameter


def _operation(endpoint: Endpoint, method: str, path: str, number: int, token: bool) -> dict[str, Any]:
    call = _CALLS[endpoint.name]
    identity = endpoint.name if len(endpoint.http) == 1 else f"{endpoint.name}_{method.lower()}"
    if number:
        first = _NAME.findall(endpoint.paths[0])
        more = [name for name in _NAME.findall(path) if name not in first]
        identity += "_of_" + "_".join(more) if more else f"_{number + 1}"
    found: dict[str, Any] = {"operationId": identity, "tags": [call.tag], "summary": call.summary}
    if endpoint.opened_by:
        found["description"] = f"Closed (403) until the config has `serve: {{{endpoint.opened_by}: ...}}`."
    taken = call.body if method == "POST" else ""
    if endpoint.name == "infer":
        found |= _infer_body(ref(taken), {})
    elif taken:
        found["requestBody"] = {"required": False, "content": {_JSON: {"schema": ref(taken)}}}
    found["responses"] = _responses(endpoint, call, method, path, token)
    if token:
        found["security"] = [{"token": []}] if endpoint.token else []
    return found


def _infer_body(schema: Mapping[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    """The body of inference, in JSON and with bytes behind it, and the header that says where these begin."""
    plain: dict[str, Any] = {"schema": dict(schema)}
    if example:
        plain["example"] = dict(example)
    length = {
        "name": HEADER, "in": "header", "required": False, "schema": {"type": "integer", "minimum": 0},
        "description": (
            "Bytes of the JSON, behind which the bytes of tensors begin. Without it all is JSON. 0: the body is the "
            "bytes of the model's only input."
        ),
    }  # fmt: skip
    return {
        "parameters": [length],
        # With a length of 0, no bytes at all are a tensor without elements.
        "requestBody": {
            "required": False,
            "description": "Without a body, only a raw request of an input without elements is one.",
            "content": {
                _JSON: plain,
                _BINARY: {
                    "schema": {
                        "type": "string",
                        "format": "binary",
                        "description": "An InferRequest as JSON, and behind it the bytes of its tensors: dense, "
                        "row-major, little endian. Elements of BYTES each have their length before them, as 4 bytes.",
                    }
                },
            },
        },
    }


def _responses(endpoint: Endpoint, call: _Call, method: str, path: str, token: bool) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "It is so." if call.answer is None else call.summary}
    if binary := _BINARIES.get(endpoint.name):
        good["content"] = {binary: {"schema": {"type": "string", "format": "binary"}}}
    elif call.answer is not None:
        good["content"] = {_JSON: {"schema": call.answer}}
    if endpoint.name == "page":
        good["content"]["text/html"] = {"schema": {"type": "string"}}
    if endpoint.name == "infer":
        good["content"][_BINARY] = {"schema": {"type": "string", "format": "binary"}}
        good["headers"] = {HEADER: {"description": "Bytes of the JSON.", "schema": {"type": "integer"}}}
    responses: dict[str, Any] = {} if call.refused else {"200": good}
    if endpoint.name in ("page", "asset", "openapi", "cameras"):
        responses["304"] = {"description": "The caller has this content already, as its If-None-Match says."}
    # Without its body, only what its path names can be wrong.
    errors = call.errors if method == "POST" or not call.body else set(call.errors) & {"NOT_FOUND"}
    codes = [*_ALWAYS, *[code for code in errors if code != "NOT_FOUND" or _NAME.search(path)]]
    if token and endpoint.token:
        codes.append("UNAUTHENTICATED")
    by_number: dict[int, list[str]] = {}
    for code in codes:
        by_number.setdefault(STATUSES[code].http, []).append(code)
    for number, same in sorted(by_number.items()):
        responses[str(number)] = {
            "description": ", ".join(sorted(set(same))), "content": {_JSON: {"schema": ref("Error")}}
        }  # fmt: skip
    return responses


def _own_path(model: Model, token: bool) -> tuple[str, dict[str, Any], str]:
    """The path of one model's inference, what is there, and the name of the schema of its request."""
    (endpoint,) = [row for row in ENDPOINTS if row.name == "infer"]
    path = endpoint.paths[0].replace("{model}", quote(model.name, safe=""))
    # Names of schemas have only these: https://spec.openapis.org/oas/v3.1.0#components-object
    safe = re.sub(r"[^\w.-]", "_", model.name, flags=re.ASCII)
    schema = f"InferRequest.{safe}"
    operation = _operation(endpoint, "POST", endpoint.paths[0], 0, token)
    operation |= _infer_body(ref(schema), example_of(model))
    operation |= {"operationId": f"infer.{safe}", "summary": f"Ask {model.name}"}
    return path, {"post": operation}, schema
