"""Envoy: the configuration of an Envoy in front of several `pipeline serve`, over HTTP and gRPC. Pure.

    callers ──▶ Envoy ──┬──▶ replica a: pipeline serve        LEAST_REQUEST among those that are healthy;
                        ├──▶ replica b: pipeline serve        what one of them did not answer, another one computes
                        └──▶ replica c: pipeline serve

A request may be computed twice: it goes to another replica also if the first one had it already when it died. That is
allowed since a pipeline is a function of its inputs (docs/design.md); what a caller gets is one answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.quantities import format_bytes
from pipeline.deploying.manifest import Document, Path
from pipeline.kserve.values import DEFAULT

__all__ = ["EnvoyOptions", "Replica", "envoy_document", "envoy_header", "parse_replicas"]

HTTP_PORT = 8000
"""Of `pipeline serve`; gRPC has the next one."""

_TYPES = "type.googleapis.com/envoy.extensions"
_MOST_PORT = 65_535
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")

#: Of a replica's connections over HTTP and gRPC without a request, in seconds: less than after which `pipeline serve`
#: closes them (75 and 300), so that no request is sent into a connection that is being closed.
_HTTP_IDLE_S, _GRPC_IDLE_S = 60, 240
#: Tries after the first. A replica that has died costs one.
_RETRIES = 3
#: Replicas that have been tried are passed over so many times when the next one is chosen.
_CHOICES = 8
#: A replica whose processors are busy answers late, and is none the less there.
_HEALTH_TIMEOUT_S = 2.0
#: Bytes of a message of gRPC beside its tensors: as the gateway's.
_ROOM = 1 << 20


@dataclass(frozen=True, slots=True)
class Replica:
    """One `pipeline serve`."""

    host: str
    """An address, or a name of DNS; IPv6 without brackets."""
    http_port: int = HTTP_PORT
    grpc_port: int = HTTP_PORT + 1


@dataclass(frozen=True, slots=True)
class EnvoyOptions:
    """What the replicas do not say."""

    listen: str = "0.0.0.0"
    """The address on which callers find Envoy."""
    http_port: int = HTTP_PORT
    grpc_port: int = HTTP_PORT + 1
    admin_port: int = 9901
    """On 127.0.0.1 only: its callers can stop Envoy."""
    max_requests: int = 1024
    """Under way at one time at each replica; as `pipeline serve` takes."""
    max_body: int = DEFAULT.body
    """Bytes of a request, which are kept for another try; as the `max_body` of the replicas."""
    timeout_s: float = 300.0
    """For a request over HTTP until its answer is whole; and for any call without a byte in either direction."""
    health_s: float = 1.0
    """Between two questions to a replica whether it is ready."""


def parse_replicas(text: str) -> tuple[Replica, ...]:
    """The replicas of HOST[:PORT[:GRPC_PORT]],... where PORT is that of HTTP, and GRPC_PORT by default the next one.

    Raises:
        ValueError: one cannot be read, or is there twice.
    """
    found = tuple(map(_parse_replica, text.split(",")))
    if twice := sorted({each.host for each in found if found.count(each) > 1}):
        raise ValueError(f"expected each replica once, found {twice[0]} twice")
    return found


def _parse_replica(text: str) -> Replica:
    matched = re.fullmatch(r"\s*(?:\[([^\]]*)\]|([^\s:\[\]]+))(?::(\d+))?(?::(\d+))?\s*", text, re.ASCII)
    host = (matched[1] or matched[2]) if matched else None
    if matched is None or host is None or not (_is_address(host) or (not matched[1] and _NAME.fullmatch(host))):
        raise ValueError(f"expected HOST, HOST:PORT or HOST:PORT:GRPC_PORT, IPv6 in brackets, found {text!r}")
    http = int(matched[3] or HTTP_PORT)
    grpc = int(matched[4] or http + 1)
    for port in (http, grpc):
        if not 0 < port <= _MOST_PORT:
            raise ValueError(f"expected ports from 1 to {_MOST_PORT}, found {port} in {text!r}")
    return Replica(host, http, grpc)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def envoy_header(replicas: Sequence[Replica]) -> str:
    """The first lines of the configuration."""
    return (
        f"An Envoy in front of {len(replicas)} `pipeline serve`, as `pipeline deploy envoy` makes it; "
        f"docs/envoy.md says why.\nenvoy --mode validate -c FILE, then: envoy -c FILE"
    )


def envoy_document(replicas: Sequence[Replica], options: EnvoyOptions) -> Document:
    """The configuration.

    Args:
        replicas: at least one.
    """
    fronts = ("http", "grpc")
    value = {
        "admin": {"address": _address("127.0.0.1", options.admin_port)},
        "static_resources": {
            "listeners": [_listener(front, options) for front in fronts],
            "clusters": [_cluster(front, replicas, options) for front in fronts],
        },
    }
    return Document(value, _comments(options))


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


# -- towards the callers ----------------------------------------------------------------------------


def _listener(front: str, options: EnvoyOptions) -> dict[str, Any]:
    port = options.http_port if front == "http" else options.grpc_port
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": front,
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": _seconds(options.timeout_s),
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "route_config": {
            "name": front,
            "virtual_hosts": [
                {"name": front, "domains": ["*"], "routes": [_route(front, options)]}
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": front, "address": _address(options.listen, port), "filter_chains": [{"filters": filters}]}


def _route(front: str, options: EnvoyOptions) -> dict[str, Any]:
    causes = ["connect-failure", "refused-stream", "reset-before-request", "reset"]
    limits: dict[str, Any]
    retry: dict[str, Any]
    if front == "http":
        # The callers' own deadlines are in their requests; this is for those that are lost.
        limits = {"timeout": _seconds(options.timeout_s)}
        retry = {"retry_on": ",".join([*causes, "retriable-status-codes"]), "retriable_status_codes": [503]}
    else:
        limits = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
        retry = {"retry_on": ",".join([*causes, "unavailable", "cancelled"])}
    retry |= {
        "num_retries": _RETRIES,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{_TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": _CHOICES,
    }
    return {
        "match": {"prefix": "/"},
        "request_body_buffer_limit": options.max_body + _ROOM,
        "route": {"cluster": front, **limits, "retry_policy": retry},
    }


# -- towards the replicas ---------------------------------------------------------------------------


def _cluster(front: str, replicas: Sequence[Replica], options: EnvoyOptions) -> dict[str, Any]:
    endpoints = [
        {"endpoint": {"address": _address(each.host, each.http_port if front == "http" else each.grpc_port)}}
        for each in replicas
    ]
    addresses = all(_is_address(each.host) for each in replicas)
    # A name may be many: that of a Service without an address of its own is all its pods.
    found = {"type": "STATIC"} if addresses else {"type": "STRICT_DNS", "dns_refresh_rate": "5s"}
    most = options.max_requests * len(replicas)
    return {
        "name": front,
        **found,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _protocol(front),
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "health_checks": [_health_check(front, options)],
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
        },
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
            ]
        },
        "load_assignment": {"cluster_name": front, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _protocol(front: str) -> dict[str, Any]:
    idle = _HTTP_IDLE_S
    said: dict[str, Any] = {"http_protocol_options": {}}
    if front == "grpc":
        alive = {"interval": "5s", "timeout": "5s"}
        idle, said = _GRPC_IDLE_S, {"http2_protocol_options": {"connection_keepalive": alive}}
    return {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{idle}s"},
        "explicit_http_config": said,
    }


def _health_check(front: str, options: EnvoyOptions) -> dict[str, Any]:
    # The gateway takes localhost and addresses in the header Host, and Envoy would send the name of the cluster.
    asked: dict[str, Any] = {"http_health_check": {"path": "/v2/health/ready", "host": "localhost"}}
    if front == "grpc":
        asked = {"grpc_health_check": {}}
    every = _seconds(options.health_s)
    return {
        "timeout": _seconds(max(_HEALTH_TIMEOUT_S, options.health_s)),
        "interval": every,
        "no_traffic_interval": every,
        "interval_jitter_percent": 10,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **asked,
    }


# -- comments ---------------------------------------------------------------------------------------


def _comments(options: EnvoyOptions) -> dict[Path, str]:
    resources: Path = ("static_resources",)
    comments: dict[Path, str] = {
        ("admin",): "A program that reaches this port can stop Envoy.",
    }
    for place in (0, 1):
        manager = (*resources, "listeners", place, "filter_chains", 0, "filters", 0, "typed_config")
        route = (*manager, "route_config", "virtual_hosts", 0, "routes", 0)
        cluster = (*resources, "clusters", place)
        comments |= {
            (*route, "request_body_buffer_limit"): "A body is kept for another try: "
            f"{format_bytes(options.max_body)}, as the replicas' max_body, which refuse a larger one.",
            (*route, "route", "retry_policy"): "Also what a replica had already when it died (reset): inference may "
            "run twice. What it refused since it is overloaded is not asked elsewhere; the caller is told.",
            (*cluster, "common_lb_config"): "One healthy replica gets all requests. If there is none, each is "
            "tried.",
            (*cluster, "outlier_detection"): "A replica that cannot be reached is left out at once, until a "
            "health check finds it. What it answers, errors too, is no reason.",
            (*cluster, "circuit_breakers"): f"{options.max_requests} for each replica, as it takes itself. Beyond "
            "it: 503. Envoy's own default is 1,024 in all, and 3 of them retries.",
        }
        if place == 1:
            comments[(*route, "route", "timeout")] = "The deadline of each call is its own."
    return comments
