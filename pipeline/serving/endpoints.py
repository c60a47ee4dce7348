"""Endpoints: every call of the gateway, over HTTP and over gRPC, and what it needs. Pure.

Both fronts make their routes of this table, so that what is not here cannot be called.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ENDPOINTS", "Endpoint"]

_MODEL = "/v2/models/{model}"
_CAMERA = "/cameras/{model}/{camera}"
_VERSION = "/v2/models/{model}/versions/{version}"


def _of_model(call: str) -> tuple[str, ...]:
    """With and without a version."""
    return (f"{_MODEL}{call}", f"{_VERSION}{call}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call."""

    name: str
    """Of the method of `calls.Calls`, or of what only a front has: "infer", "stream", "metrics", "health", "watch",
    "page", "asset", "openapi"."""
    http: tuple[str, ...] = ()
    """Its methods; empty: it is not there over HTTP."""
    paths: tuple[str, ...] = ()
    grpc: str = ""
    """The name of the method; empty: it is not there over gRPC."""
    token: bool = True
    """Whether it needs the bearer token, if there is one."""
    ticketed: bool = False
    """Whether a ticket in its address stands for the token (`cameras.tickets`): it is what pictures and videos show."""
    opened_by: str = ""
    """The key of `serve:` without which it is refused; empty: it is always open."""
    port: str = "http"
    """On which of the ports of HTTP it is: "http" or "metrics"."""


ENDPOINTS = (
    # Without a token: what Kubernetes, Envoy and load balancers ask, which have none. They tell no name of a model.
    Endpoint("server_live", ("GET",), ("/v2/health/live",), "ServerLive", token=False),
    Endpoint("server_ready", ("GET",), ("/v2/health/ready",), "ServerReady", token=False),
    Endpoint("health", grpc="Check", token=False),
    Endpoint("watch", grpc="Watch", token=False),
    # Files of the package, the same everywhere. What the page shows it asks for by the calls below, with the token.
    Endpoint("page", ("GET",), ("/",), token=False),
    Endpoint("asset", ("GET",), ("/page/{asset}",), token=False),
    Endpoint("cameras", ("GET",), ("/cameras",), token=False),
    # It names the models.
    Endpoint("openapi", ("GET",), ("/openapi.json",)),
    Endpoint("server_metadata", ("GET",), ("/v2", "/v2/"), "ServerMetadata"),
    # Before those of a model: `stats` is no model's name here.
    Endpoint("all_statistics", ("GET",), ("/v2/models/stats",)),
    Endpoint("model_ready", ("GET",), _of_model("/ready"), "ModelReady"),
    Endpoint("model_metadata", ("GET",), _of_model(""), "ModelMetadata"),
    Endpoint("model_config", ("GET",), _of_model("/config"), "ModelConfig"),
    Endpoint("statistics", ("GET",), _of_model("/stats"), "ModelStatistics"),
    Endpoint("infer", ("POST",), _of_model("/infer"), "ModelInfer"),
    Endpoint("stream", grpc="ModelStreamInfer"),
    Endpoint("index", ("POST",), ("/v2/repository/index",), "RepositoryIndex"),
    Endpoint(
        "load", ("POST",), ("/v2/repository/models/{model}/load",), "RepositoryModelLoad", opened_by="control"
    ),
    Endpoint(
        "unload", ("POST",), ("/v2/repository/models/{model}/unload",), "RepositoryModelUnload", opened_by="control"
    ),
    Endpoint(
        "region_status",
        ("GET",),
        ("/v2/systemsharedmemory/status", "/v2/systemsharedmemory/region/{region}/status"),
        "SystemSharedMemoryStatus",
    ),
    Endpoint(
        "region_register",
        ("POST",),
        ("/v2/systemsharedmemory/region/{region}/register",),
        "SystemSharedMemoryRegister",
        opened_by="shared_memory",
    ),
    Endpoint(
        "region_unregister",
        ("POST",),
        ("/v2/systemsharedmemory/unregister", "/v2/systemsharedmemory/region/{region}/unregister"),
        "SystemSharedMemoryUnregister",
    ),
    Endpoint(
        "cuda_status",
        ("GET",),
        ("/v2/cudasharedmemory/status", "/v2/cudasharedmemory/region/{region}/status"),
        "CudaSharedMemoryStatus",
    ),
    Endpoint(
        "cuda_register", ("POST",), ("/v2/cudasharedmemory/region/{region}/register",), "CudaSharedMemoryRegister"
    ),
    Endpoint(
        "cuda_unregister",
        ("POST",),
        ("/v2/cudasharedmemory/unregister", "/v2/cudasharedmemory/region/{region}/unregister"),
        "CudaSharedMemoryUnregister",
    ),
    Endpoint("trace", ("GET", "POST"), ("/v2/trace/setting", f"{_MODEL}/trace/setting"), "TraceSetting"),
    Endpoint("log", ("GET", "POST"), ("/v2/logging",), "LogSettings"),
    Endpoint("cameras_state", ("GET",), ("/cameras/state",)),
    Endpoint("cameras_events", ("GET",), ("/cameras/events",)),
    Endpoint("cameras_stream", ("GET",), ("/cameras/stream",)),
    Endpoint("camera_picture", ("GET",), (f"{_CAMERA}.jpg",)),
    Endpoint("camera_stream", ("GET",), (f"{_CAMERA}/stream",)),
    Endpoint("camera_file", ("GET",), (f"{_CAMERA}/files/{{file}}",), ticketed=True),
    Endpoint("camera_pause", ("POST",), (f"{_CAMERA}/pause",)),
    Endpoint("camera_resume", ("POST",), (f"{_CAMERA}/resume",)),
    Endpoint("camera_zones", ("GET",), (f"{_CAMERA}/zones",)),
    Endpoint("camera_edit", ("POST",), (f"{_CAMERA}/zones",), opened_by="edit"),
    Endpoint("metrics", ("GET",), ("/metrics",), port="metrics"),
)
