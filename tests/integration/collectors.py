"""A collector of OpenTelemetry for tests: a server of OTLP over HTTP, which decodes what comes with the official classes."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "attributes_of"]

_PATIENCE_S = 200.0


class Collector:
    """A `with` block in which a collector listens. `spans` has all that it was given.

    Args:
        port: 0: any that is free.
        status: what it answers, once it has kept nothing, in place of 200.
        delay_s: how long it takes for an answer.
    """

    def __init__(self, port: int = 0, status: int = 200, delay_s: float = 0.0) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status, self.delay_s = status, delay_s
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                time.sleep(collector.delay_s)
                if collector.status == 200:
                    assert self.path == "/v1/traces"
                    assert self.headers["content-type"] == "application/x-protobuf"
                    collector._take(ExportTraceServiceRequest.FromString(body), dict(self.headers.items()))
                self.send_response(collector.status)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        return Handler

    def _take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        self.headers.append({name.lower(): value for name, value in headers.items()})
        for each in request.resource_spans:
            self.resources.append(attributes_of(each.resource))
            for scope in each.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def await_spans(self, enough: Callable[[], object]) -> None:
        """Wait until that is true."""
        end = time.monotonic() + _PATIENCE_S
        while not enough():
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.02)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes_of(what: Any) -> dict[str, Any]:
    """The attributes of a span, or of a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in what.attributes}
