"""The configuration of an Envoy: what follows from the replicas and the options. The real Envoy reads it in tests/foreign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.deploying.envoy import EnvoyOptions, Replica, envoy_document, envoy_header, parse_replicas
from pipeline.deploying.manifest import to_yaml
from pipeline.serving.settings import Settings

ROOT = Path(__file__).parents[4]


def resources(text: str, **options: Any) -> tuple[list[Any], list[Any]]:
    """The listeners and the clusters, that of HTTP first."""
    found = envoy_document(parse_replicas(text), EnvoyOptions(**options)).value["static_resources"]
    return found["listeners"], found["clusters"]


def routes(listeners: list[Any]) -> list[Any]:
    managers = [each["filter_chains"][0]["filters"][0]["typed_config"] for each in listeners]
    return [each["route_config"]["virtual_hosts"][0]["routes"][0] for each in managers]


def places(cluster: Any) -> list[tuple[str, int]]:
    addresses = [each["endpoint"]["address"]["socket_address"] for each in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]]
    return [(each["address"], each["port_value"]) for each in addresses]


@pytest.mark.parametrize(
    ("text", "replica"),
    [
        ("10.0.0.1", Replica("10.0.0.1", 8000, 8001)),
        ("gateway_0.models.svc:9000", Replica("gateway_0.models.svc", 9000, 9001)),
        (" a:9000:7000 ", Replica("a", 9000, 7000)),
        ("[::1]", Replica("::1", 8000, 8001)),
        ("[fe80::2]:1:65535", Replica("fe80::2", 1, 65535)),
    ],
)
def test_a_replica_is_a_host_and_two_ports(text: str, replica: Replica) -> None:
    assert parse_replicas(f"{text},z") == (replica, Replica("z"))


@pytest.mark.parametrize(
    "text", ["", "a,", "a,,b", "::1", "[::1", "[a]", "a:", "a:b", "a:1:2:3", "http://a", "a b", "-a", "a:0", "a:65535", "a:1:65536"]
)
def test_what_is_no_replica_is_refused_as_it_was_written(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_replicas(text)


def test_a_replica_is_named_once() -> None:
    with pytest.raises(ValueError, match="found a twice"):
        parse_replicas("a,b,a:8000:8001")
    assert len(parse_replicas("a,a:8002")) == 2


def test_each_front_leads_to_its_port_of_every_replica() -> None:
    listeners, clusters = resources("10.0.0.1,10.0.0.2:9000:7000")
    assert [places(each) for each in clusters] == [
        [("10.0.0.1", 8000), ("10.0.0.2", 9000)], [("10.0.0.1", 8001), ("10.0.0.2", 7000)],
    ]  # fmt: skip
    assert [each["route"]["cluster"] for each in routes(listeners)] == [each["name"] for each in clusters]
    protocols = [next(iter(each["typed_extension_protocol_options"].values()))["explicit_http_config"] for each in clusters]
    assert [[*each] for each in protocols] == [["http_protocol_options"], ["http2_protocol_options"]]


def test_names_are_looked_up_again_and_addresses_are_not() -> None:
    assert [each["type"] for each in resources("10.0.0.1,[::1]")[1]] == ["STATIC", "STATIC"]
    assert [each["type"] for each in resources("10.0.0.1,a")[1]] == ["STRICT_DNS", "STRICT_DNS"]


def test_all_requests_of_a_replica_may_be_asked_again_elsewhere() -> None:
    listeners, clusters = resources("a,b,c", max_requests=100)
    for cluster in clusters:
        (limits,) = cluster["circuit_breakers"]["thresholds"]
        assert set(limits.values()) == {300}
    for route in routes(listeners):
        assert {"connect-failure", "refused-stream", "reset"} <= {*route["route"]["retry_policy"]["retry_on"].split(",")}


def test_its_limits_are_those_of_the_gateway() -> None:
    gateway, ours = Settings(), EnvoyOptions()
    assert (ours.http_port, ours.grpc_port, ours.max_requests, ours.max_body) == (
        gateway.http_port, gateway.grpc_port, gateway.connections, gateway.max_body,
    )  # fmt: skip
    for route in routes(resources("a")[0]):
        # With what grpc_front adds for what is beside the tensors.
        assert route["request_body_buffer_limit"] == gateway.max_body + (1 << 20)


def test_a_call_of_grpc_has_the_time_that_its_caller_gives_it() -> None:
    http, grpc = (each["route"] for each in routes(resources("a", timeout_s=12.5)[0]))
    assert (http["timeout"], grpc["timeout"]) == ("12.5s", "0s")


def test_a_health_check_that_is_rare_has_more_time() -> None:
    for every, timeout in ((0.5, "2s"), (30, "30s")):
        for cluster in resources("a", health_s=every)[1]:
            (check,) = cluster["health_checks"]
            assert (check["interval"], check["no_traffic_interval"], check["timeout"]) == (f"{every}s", f"{every}s", timeout)


def test_the_example_of_the_repository_is_what_the_command_prints() -> None:
    replicas = parse_replicas("gateway-0.example.com,gateway-1.example.com,gateway-2.example.com")
    printed = to_yaml(envoy_header(replicas), [envoy_document(replicas, EnvoyOptions())])
    assert (ROOT / "deploy/envoy/envoy.yaml").read_text() == printed
