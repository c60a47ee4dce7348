"""Spans as OpenTelemetry's exporters take them, and what the environment says of them."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.graph.plan import TracingPlan
from pipeline.tracing.collector import headers_of, protocol_of, readable, resource_of
from pipeline.tracing.spans import Span
from pipeline.wire.traceparent import Context

PLAN = TracingPlan(sample=1.0)


def test_a_span_is_put_on_the_clock_of_the_wall_with_its_parent_links_events_and_status() -> None:
    span = Span(
        "detect", Context(7, 8, True), 9, 100, 200, {"trtlab.rows": 1}, [(150, "submitted")], [Context(3, 4, True)],
        "it is no picture", is_root=True,
    )  # fmt: skip
    found = readable(span, resource_of(PLAN, "detect", "detect-7"), since=1000)
    assert (found.start_time, found.end_time, found.events[0].timestamp) == (1100, 1200, 1150)
    assert found.parent is not None
    assert (found.context.trace_id, found.context.span_id, found.parent.span_id) == (7, 8, 9)
    assert [(link.context.trace_id, link.context.span_id) for link in found.links] == [(3, 4)]
    assert (found.status.status_code.name, found.status.description) == ("ERROR", "it is no picture")
    assert (found.kind.name, found.instrumentation_scope.name) == ("SERVER", "trtlab")
    inner = readable(Span("infer", Context(7, 8, True), 0, 1, 2), resource_of(PLAN, "detect", "detect-7"), since=0)
    assert (inner.parent, inner.kind.name, inner.status.status_code.name) == (None, "INTERNAL", "UNSET")


def test_the_service_is_that_of_the_config_or_the_environments_or_the_pipelines_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource_of(PLAN, "detect", "detect-7").attributes["service.name"] == "detect"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,host.name=far")
    found = resource_of(PLAN, "detect", "detect-7").attributes
    assert found["service.name"] == "shop"
    assert (found["host.name"], found["deployment.environment.name"]) == ("far", "test")
    assert (found["service.instance.id"], found["trtlab.pipeline"]) == ("detect-7", "detect")
    named = resource_of(TracingPlan(sample=1.0, service="vision"), "detect", "detect-7")
    assert named.attributes["service.name"] == "vision"


def test_the_protocol_is_the_configs_or_the_environments_and_another_one_is_refused() -> None:
    assert protocol_of(PLAN, {}) == "http/protobuf"
    assert protocol_of(PLAN, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == "grpc"
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert protocol_of(PLAN, both) == "http/protobuf"
    assert protocol_of(TracingPlan(sample=1.0, protocol="grpc"), both) == "grpc"
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf or grpc, found 'http/json'"):
        protocol_of(PLAN, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})


def test_headers_are_lines_and_a_line_that_is_none_is_not_shown() -> None:
    assert headers_of("Authorization: Bearer a:b\n\nx-team: vision\n") == {
        "authorization": "Bearer a:b", "x-team": "vision",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="line 2: expected `name: value`") as refused:
        headers_of("a: b\ngeheim\n")
    assert "geheim" not in str(refused.value)
