"""The exporter process: answers GET /metrics of a pipeline whose YAML says so, for Prometheus.

A process of its own: the supervisor and the scheduler must not wait for a caller of the network, nor load what renders
metrics; and whatever comes in through this port can break only this process, which is started again.

It asks the scheduler once for each answer, as `pipeline status` does, and keeps nothing. If the scheduler says nothing,
the answer is 503 with the reason, so that Prometheus' `up` is 0. Of a pipeline that is reloaded only the version that
serves listens, so both may have one port; for a moment none does.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.client.status import ask_status
from pipeline.errors import Unavailable
from pipeline.logs.telling import tell
from pipeline.metrics.host import host_usage
from pipeline.metrics.processes import processes_of
from pipeline.metrics.rendering import CONTENT_TYPE, render, render_host, render_processes
from pipeline.processes.child import boot
from pipeline.serving.doors import shown
from pipeline.wire.run_dir import root_of, serving
from pipeline.wire.shards import front_of
from pipeline.wire.status import PipelineStatus

__all__ = ["ExporterServer", "answer_to", "main"]

_PATH = "/metrics"
_PLAIN = "text/plain; charset=utf-8"
_MOST_CALLERS = 16
"""At one time; Prometheus is one. What comes beyond is hung up on."""
_PATIENCE_S = 10
"""For a caller to send its request, and to take the answer."""
_ASK_S = 5.0
"""For the scheduler to answer: on a busy machine it takes seconds, and Prometheus waits for ten."""
_AGAIN_S = 0.5
"""How often it looks whether its run still serves, and whether the port is free."""


def answer_to(target: str, ask: Callable[[], PipelineStatus]) -> tuple[int, str, str]:
    """What a GET is answered: (status code of HTTP, content type, body).

    Args:
        target: of the request, with its query, which means nothing.
        ask: asks the scheduler; raises `Unavailable`.
    """
    if target.partition("?")[0] != _PATH:
        return 404, _PLAIN, f"nothing is here: expected {_PATH}\n"
    try:
        status = ask()
    except Unavailable as error:
        return 503, _PLAIN, f"{error}\n"
    processes = render_processes({status.pipeline: processes_of(status)})
    return 200, CONTENT_TYPE, render(status) + processes + render_host(host_usage())


class _Handler(BaseHTTPRequestHandler):
    server: ExporterServer
    server_version, sys_version = "trtlab", ""
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        code, kind, text = answer_to(self.path, self.server.ask)
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every few seconds is no news."""


class ExporterServer(ThreadingHTTPServer):
    """Answers GET /metrics, each caller in a thread of its own.

    Args:
        host: the address to listen on.
        port: 0: any that is free, then `server_address` has it.
        ask: see `answer_to`.

    Raises:
        OSError: it cannot listen there.
    """

    daemon_threads = True
    #: How long `handle_request` waits.
    timeout = _AGAIN_S

    def __init__(self, host: str, port: int, ask: Callable[[], PipelineStatus]) -> None:
        self._ask, self._asking = ask, threading.Lock()
        self._left = threading.BoundedSemaphore(_MOST_CALLERS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def ask(self) -> PipelineStatus:
        """Asks the scheduler, for one caller at a time: many would be no news, and only work for it."""
        with self._asking:
            return self._ask()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A caller has come."""
        if self._left.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the caller's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up in the middle is no news; all else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _listen(host: str, port: int, run_dir: Path) -> None:
    """Answer for as long as the run serves.

    Raises:
        OSError: it cannot listen there.
    """
    with ExporterServer(host, port, partial(ask_status, run_dir, timeout_s=_ASK_S)) as server:
        tell("info", f"metrics on http://{shown(host)}:{server.server_address[1]}{_PATH}")
        while _serves(run_dir):
            server.handle_request()


def _serves(run_dir: Path) -> bool:
    """Whether no other version of the pipeline serves in place of this one."""
    return serving(root_of(run_dir)) == front_of(run_dir)


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    plan = boot_.plan.metrics
    assert plan is not None
    complained = ""
    while True:
        if _serves(boot_.run_dir):
            try:
                _listen(plan.host, plan.port, boot_.run_dir)
                complained = ""
            except OSError as error:
                complaint = f"no metrics on {plan.host}:{plan.port}: {error.strerror or error}; it goes on trying"
                # Once: the run goes on without metrics, and a port that is taken must not fill the log.
                if complaint != complained:
                    tell("warning", complaint)
                complained = complaint
        time.sleep(_AGAIN_S)


if __name__ == "__main__":
    main()
