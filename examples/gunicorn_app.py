"""A WSGI app under gunicorn's prefork workers: it reads the digit on a picture that is posted to it.

    pipeline run configs/digits.yaml --serve
    gunicorn --workers 4 --preload --bind 127.0.0.1:8080 --chdir examples gunicorn_app:app
    curl --data-binary @photos/digits/7.png http://127.0.0.1:8080/

A client belongs to the process that made it. So each of gunicorn's workers connects by itself, at its first request:
with --preload, this module was imported before the fork. Within a worker, any number of threads share the runner
(--threads 8).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pipeline
from pipeline.errors import BadInput, DeadlineExceeded, InvalidRequest, Overloaded, PipelineError, Unavailable

_mutex = threading.Lock()
_runner: Any = None

STATUS = {
    BadInput: "422 Unprocessable Content",
    InvalidRequest: "422 Unprocessable Content",
    Overloaded: "429 Too Many Requests",
    Unavailable: "503 Service Unavailable",
    DeadlineExceeded: "504 Gateway Timeout",
}


def runner() -> Any:
    """This process's runner."""
    global _runner
    with _mutex:
        if _runner is None:
            # A request waits for a pipeline that restarts, but for less than its deadline: the answer is 503, not 504.
            _runner = pipeline.connect("digits", name="web", patience_s=2).infer_runner("digits")
        return _runner


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A picture in, its digit out."""
    picture = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        result = runner().infer(image=picture, deadline_ms=5000).get()
        status, answer = "200 OK", {"digit": result["labels"][0], "process": os.getpid()}
    except PipelineError as error:
        status = next((text for kind, text in STATUS.items() if isinstance(error, kind)), "500 Internal Server Error")
        answer = {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
