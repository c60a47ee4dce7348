"""What the exporter answers, over a socket and without one."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import Unavailable
from pipeline.metrics.rendering import CONTENT_TYPE
from pipeline.processes.exporter import ExporterServer, answer_to
from pipeline.wire.status import PipelineStatus

STATUS = PipelineStatus("pets", 1, True, {}, 3, {}, {"OK": 7}, (), (), (), (), (), 10.0)


def silent() -> PipelineStatus:
    raise Unavailable("the scheduler of pets-1 is dead")


@pytest.fixture
def server() -> Iterator[ExporterServer]:
    made = ExporterServer("127.0.0.1", 0, lambda: STATUS)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(server: ExporterServer, method: str, target: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_metrics_are_those_of_the_status() -> None:
    code, kind, text = answer_to("/metrics?x=1", lambda: STATUS)
    assert (code, kind) == (200, CONTENT_TYPE)
    assert 'trtlab_requests_inside{pipeline="pets"} 3.0' in text.splitlines()


def test_a_scheduler_that_says_nothing_is_a_failed_scrape_with_the_reason() -> None:
    assert answer_to("/metrics", silent) == (503, "text/plain; charset=utf-8", "the scheduler of pets-1 is dead\n")


@pytest.mark.parametrize("target", ["/", "/metrics/", "/metricsx", "http://x/metrics", "/v2"])
def test_nothing_else_is_there_and_the_scheduler_is_not_asked(target: str) -> None:
    assert answer_to(target, silent)[0] == 404


def test_over_http_a_get_has_the_metrics_and_a_head_their_length(server: ExporterServer) -> None:
    code, headers, body = ask(server, "GET", "/metrics")
    assert (code, headers["Content-Type"]) == (200, CONTENT_TYPE)
    assert "trtlab_ready" in {family.name for family in text_string_to_metric_families(body.decode())}
    assert ask(server, "HEAD", "/metrics")[1]["Content-Length"] == str(len(body))
    assert ask(server, "POST", "/metrics")[0] == 501


def test_callers_that_say_nothing_keep_none_out_but_those_beyond_the_limit(server: ExporterServer) -> None:
    address = server.server_address[:2]
    silent_callers = [socket.create_connection(address, timeout=30) for _ in range(15)]
    try:
        assert ask(server, "GET", "/metrics")[0] == 200
        silent_callers += [socket.create_connection(address, timeout=30) for _ in range(2)]
        # One of those beyond sixteen is hung up on.
        assert silent_callers[-1].recv(1) == b""
    finally:
        for caller in silent_callers:
            caller.close()
