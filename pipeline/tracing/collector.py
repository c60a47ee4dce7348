"""Collector: gives spans to an OpenTelemetry collector, by the exporters of OpenTelemetry itself.

They know the variables OTEL_EXPORTER_OTLP_..., compress, and send again what a collector could not take, for as long as
one export may take (10 s, OTEL_EXPORTER_OTLP_TIMEOUT). Why one fails they say only to `logging`; it is read there.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pipeline.errors import ConfigError
from pipeline.graph.plan import TracingPlan
from pipeline.tracing.spans import Span
from pipeline.wire.traceparent import Context

__all__ = ["Collector", "headers_of", "protocol_of", "readable", "resource_of"]

_SCOPE = InstrumentationScope("trtlab")
_TRACES_PATH = "/v1/traces"
_PROTOCOLS = ("http/protobuf", "grpc")


class Collector:
    """Where spans go.

    Args:
        plan: how it is reached.
        resource: what the spans are of.

    Raises:
        ConfigError: it cannot be reached so.
    """

    def __init__(self, plan: TracingPlan, resource: Resource) -> None:
        self._resource = resource
        self._exporter = _exporter(plan, os.environ)
        self._said = _Said()
        log = logging.getLogger("opentelemetry")
        log.addHandler(self._said)
        log.propagate = False

    def export(self, spans: Sequence[Span]) -> str | None:
        """Give it spans, which may take as long as an export may; why it has not taken them, None: it has."""
        self._said.last = ""
        # Anew each time: the clock of the wall may be set.
        since = time.time_ns() - time.monotonic_ns()
        outcome = self._exporter.export([readable(span, self._resource, since) for span in spans])
        return None if outcome is SpanExportResult.SUCCESS else self._said.last or "it has not taken them"

    def close(self) -> None:
        """Break off an export that waits to be tried again; no other may follow."""
        self._exporter.shutdown()


class _Said(logging.Handler):
    """What the exporters say, the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def readable(span: Span, resource: Resource, since: int) -> ReadableSpan:
    """A span as the exporters take it.

    Args:
        since: nanoseconds from 1970 to the beginning of the monotonic clock.
    """
    trace_id, span_id, _ = span.context
    parent = Context(trace_id, span.parent, True)
    return ReadableSpan(
        name=span.name,
        context=_context(Context(trace_id, span_id, True)),
        parent=_context(parent) if span.parent else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(text, timestamp=at + since) for at, text in span.events],
        links=[Link(_context(each)) for each in span.links],
        kind=SpanKind.SERVER if span.is_root else SpanKind.INTERNAL,
        instrumentation_scope=_SCOPE,
        status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.begin + since,
        end_time=span.end + since,
    )


def _context(context: Context) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(context.trace_id, context.span_id, False, flags)


def resource_of(plan: TracingPlan, pipeline: str, run: str) -> Resource:
    """What the spans of a run are of; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say what the plan does not."""
    said = dict(OTELResourceDetector().detect().attributes)
    found = {"service.instance.id": run, "host.name": socket.gethostname(), "trtlab.pipeline": pipeline, **said}
    return Resource.create({**found, "service.name": plan.service or str(said.get("service.name", pipeline))})


def protocol_of(plan: TracingPlan, environ: Mapping[str, str]) -> str:
    """How spans travel.

    Raises:
        ConfigError: the environment names another protocol than the two.
    """
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if not plan.protocol and (said := environ.get(name)):
            if said not in _PROTOCOLS:
                raise ConfigError(f"{name}: expected {' or '.join(_PROTOCOLS)}, found {said!r}")
            return said
    return plan.protocol or _PROTOCOLS[0]


def headers_of(text: str) -> dict[str, str]:
    """The headers in a file: `name: value` in each line.

    Raises:
        ConfigError: a line is none. It is not shown: it may be a password.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.strip() or not value.strip():
            raise ConfigError(f"tracing.headers_file: line {number}: expected `name: value`")
        found[name.strip().lower()] = value.strip()
    return found


def _exporter(plan: TracingPlan, environ: Mapping[str, str]) -> SpanExporter:
    headers = None
    if plan.headers_file:
        try:
            headers = headers_of(Path(plan.headers_file).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tracing.headers_file cannot be read: {error}") from None
    if protocol_of(plan, environ) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        # Insecure or not: its scheme says that, or OTEL_EXPORTER_OTLP_INSECURE.
        return GrpcExporter(endpoint=plan.endpoint or None, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    endpoint = plan.endpoint and plan.endpoint.rstrip("/").removesuffix(_TRACES_PATH) + _TRACES_PATH
    return HttpExporter(endpoint=endpoint or None, headers=headers)
