"""Export of traces: pipelines and a collector, which decodes what comes with the official classes."""

from __future__ import annotations

import time
from concurrent import futures
from contextlib import closing
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from pipeline.errors import BadInput
from pipeline.kserve.values import InferRequest
from pipeline.testing import RunningPipeline, running
from pipeline.wire.records import Origin
from tests.integration.collectors import Collector, attributes_of
from tests.integration.conftest import Folder
from tests.integration.gateways import Gateway, Http, Rpc, serving, tensor

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
DATA = np.zeros(4, np.uint8)


def await_observed(pipeline: RunningPipeline) -> None:
    """Wait until the tracer watches: what ends before is not exported."""
    await_count(pipeline, "spans_exported", 0)


def await_count(pipeline: RunningPipeline, name: str, least: int) -> None:
    end = time.monotonic() + 200
    while pipeline.status()["counts"].get(name, -1) < least:
        assert time.monotonic() < end, pipeline.status()["counts"]
        time.sleep(0.05)


def test_a_request_is_a_span_of_its_callers_trace_with_its_stages_below(folder: Folder) -> None:
    with Collector() as collector:
        config = folder.config({}, {}, name="traced", tracing={"endpoint": collector.url, "sample": 0.0})
        with running(config) as pipeline, pipeline.client("app.py") as client:
            await_observed(pipeline)
            client.submit(data=DATA, name="alone").get()
            draft = client.draft(data=(4,))
            draft.inputs["data"][...] = 0
            draft.submit(name="photo", origin=Origin(traceparent=SAMPLED)).get()
            collector.await_spans(lambda: len(collector.spans) >= 7)
            await_count(pipeline, "spans_exported", 7)
    spans = {span.name: span for span in collector.spans}
    assert len(collector.spans) == len(spans) == 7
    root = spans["traced"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert root.parent_span_id.hex() == PARENT
    assert root.kind == root.SPAN_KIND_SERVER
    found = attributes_of(root)
    assert found.pop("trtlab.request.id").count("-") == 1
    assert found == {"trtlab.request.name": "photo", "trtlab.client": "app.py", "trtlab.rows": 1}
    # The clock of the wall: a minute is more than any test takes.
    assert abs(root.end_time_unix_nano - time.time_ns()) < 60e9
    for stage in ("s0", "s1"):
        assert spans[stage].parent_span_id == root.span_id
        for part in ("queue", "compute"):
            inner = spans[f"{stage} {part}"]
            assert inner.parent_span_id == spans[stage].span_id
            assert spans[stage].start_time_unix_nano <= inner.start_time_unix_nano
            assert inner.end_time_unix_nano <= spans[stage].end_time_unix_nano
        compute = attributes_of(spans[f"{stage} compute"])
        assert (compute["trtlab.worker"], compute["trtlab.batch.size"]) == (f"{stage}/0", 1)
    assert spans["s0"].end_time_unix_nano <= spans["s1"].end_time_unix_nano <= root.end_time_unix_nano
    resource = collector.resources[0]
    assert resource["service.name"] == "traced"
    assert resource["service.instance.id"] == pipeline.run_dir.name
    assert resource["telemetry.sdk.name"] == "opentelemetry"


@pytest.mark.foreign
def test_batch_mates_are_linked_and_a_failed_request_says_why(folder: Folder) -> None:
    (folder.path / "token").write_text("authorization: Bearer geheim\n")
    with Collector() as collector:
        tracing = {"endpoint": collector.url, "sample": 1.0, "headers_file": "token", "service": "shop"}
        stage = {"batch": {"max_size": 2, "max_delay_ms": 1000}, "with": {"how": "bad_input"}}
        with running(folder.config(stage, name="mates", tracing=tracing)) as pipeline:
            await_observed(pipeline)
            with pipeline.client() as client:
                good = [client.submit(data=DATA, flush=False) for _ in range(2)]
                client.flush()
                assert [future.get()["data"].tolist() for future in good] == [DATA.tolist()] * 2
                del good
                with pytest.raises(BadInput):
                    client.submit(data=np.frombuffer(b"poison", np.uint8)).get()
            collector.await_spans(lambda: len(collector.named("mates")) == 3)
        assert "geheim" not in pipeline.log()
    assert collector.headers[0]["authorization"] == "Bearer geheim"
    assert collector.resources[0]["service.name"] == "shop"
    first, second = collector.named("s0 compute")
    assert first.trace_id != second.trace_id
    for one, other in ((first, second), (second, first)):
        assert [(link.trace_id, link.span_id) for link in one.links] == [(other.trace_id, other.span_id)]
        assert attributes_of(one)["trtlab.batch.size"] == 2
    failed = {root.status.code: root for root in collector.named("mates")}
    error = failed[2]
    assert attributes_of(error)["error.type"] == "BadInput"
    assert error.status.message
    assert failed[0].status.message == ""


@pytest.mark.foreign
def test_a_trace_goes_through_a_gateway_and_a_stage_of_another_server(folder: Folder) -> None:
    with Collector() as collector:
        tracing = {"endpoint": collector.url, "sample": 0.0}
        with serving(folder.config({}, name="inner", tracing=tracing)) as far:
            await_metric(far, "inner")
            for protocol, url in (("http", far.url), ("grpc", f"grpc://{far.grpc}")):
                specs = [{"name": "data", "dtype": "uint8", "shape": ["bytes"], "max": {"bytes": 65536}}]
                options = {"url": url, "model": "inner", "specs": {"inputs": specs, "outputs": specs}}
                stage = {"name": "far", "use": "stages.remote:RemoteInfer", "with": options}
                with serving(folder.config(stage, name=f"outer-{protocol}", tracing=tracing)) as near:
                    await_metric(near, f"outer-{protocol}")
                    collector.spans.clear()
                    ask(near, protocol)
                    collector.await_spans(lambda: len(collector.spans) >= 8)
                found = {span.name: span for span in collector.spans}
                outer = [f"outer-{protocol}", "far", "far queue", "far compute"]
                assert sorted(found) == sorted([*outer, "inner", "s0", "s0 queue", "s0 compute"])
                assert {span.trace_id.hex() for span in found.values()} == {TRACE}
                assert found[f"outer-{protocol}"].parent_span_id.hex() == PARENT
                assert found["inner"].parent_span_id == found["far compute"].span_id


def await_metric(gateway: Gateway, pipeline: str) -> None:
    """Wait until a tracer behind a gateway watches."""
    end = time.monotonic() + 200
    while f'trtlab_spans_total{{outcome="exported",pipeline="{pipeline}"}}' not in httpx.get(
        f"{gateway.metrics}/metrics" if "/metrics" not in gateway.metrics else gateway.metrics
    ).text:  # fmt: skip
        assert time.monotonic() < end
        time.sleep(0.1)


def ask(gateway: Gateway, protocol: str) -> None:
    """A request with a trace context, over that protocol."""
    request = InferRequest(f"outer-{protocol}", "", (tensor("data", DATA),))
    if protocol == "http":
        Http(gateway).infer(request, headers={"traceparent": SAMPLED})
    else:
        with closing(Rpc(gateway, [("traceparent", SAMPLED)])) as rpc:
            rpc.infer(request)


def test_children_and_attempts_have_spans_of_their_own(folder: Folder) -> None:
    with Collector() as collector:
        tracing = {"endpoint": collector.url, "sample": 1.0}
        with running(folder.config({"with": {"seconds": 1.0}}, name="again", tracing=tracing)) as pipeline:
            await_observed(pipeline)
            with pipeline.client() as client:
                future = client.submit(data=DATA)
                time.sleep(0.3)
                psutil.Process(pipeline.worker_pids("s0")[0]).kill()
                future.get()
            collector.await_spans(lambda: collector.named("s0 compute"))
    (root,) = collector.named("again")
    attempts = sorted(collector.named("attempt"), key=lambda span: span.start_time_unix_nano)
    assert [attributes_of(span)["trtlab.attempt"] for span in attempts] == [0, 1]
    assert [span.status.code for span in attempts] == [2, 0]
    assert "died" in attempts[0].status.message
    assert {span.parent_span_id for span in attempts} == {root.span_id}
    (stage,) = collector.named("s0")
    assert stage.parent_span_id == attempts[1].span_id
    assert any("died" in event.name for event in root.events)


@pytest.mark.foreign
def test_spans_go_over_grpc_too_if_the_environment_says_so(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[Any] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:
            came.append((request, dict(context.invocation_metadata())))
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=vision")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    try:
        with running(folder.config({}, name="called", tracing={"sample": 1.0})) as pipeline:
            await_observed(pipeline)
            with pipeline.client() as client:
                client.submit(data=DATA).get()
            await_count(pipeline, "spans_exported", 4)
    finally:
        server.stop(None).wait()
    (request, metadata), *_ = came
    assert metadata["x-team"] == "vision"
    assert attributes_of(request.resource_spans[0].resource)["service.name"] == "shop"
    names = [span.name for span in request.resource_spans[0].scope_spans[0].spans]
    assert names == ["called", "s0", "s0 queue", "s0 compute"]
