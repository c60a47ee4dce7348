"""A server of others as a process: it is ready, or is told why not; and nothing of it is left."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from bench.versus.process import ServerProcess, free_ports, says_ready

#: It starts a child, answers everything over HTTP with the status that it is given, and ignores SIGTERM if it is told to.
SERVER = """
import http.server, signal, subprocess, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.end_headers()

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("child", child.pid, flush=True)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def command(port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), *arguments]


@pytest.mark.parametrize("how", ["close", "kill", "stubborn"])
def test_it_is_there_once_it_is_ready_and_ends_with_what_it_has_started(tmp_path: Path, how: str) -> None:
    (port,) = free_ports(1)
    where = f"127.0.0.1:{port}"
    server = ServerProcess("it", command(port, "200", how), tmp_path / "log", lambda: says_ready(where), end_s=0.5)
    try:
        assert says_ready(where)
        (child,) = server.children()
        assert f"child {child.pid}" in (tmp_path / "log").read_text()
    finally:
        (server.kill if how == "kill" else server.close)()
    server.close()
    assert not psutil.pid_exists(server.pid)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not says_ready(where)


def test_one_that_is_not_ready_in_time_is_told_with_what_it_has_printed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match=r"(?s)it was not ready within 1.5 s, .*child \d+"):
        ServerProcess("it", command(port, "503"), log, lambda: says_ready(f"127.0.0.1:{port}"), start_s=1.5)
    child = int(log.read_text().split()[1])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    with pytest.raises(RuntimeError, match=r"(?s)it was not ready .*No module named nope"):
        ServerProcess("it", [sys.executable, "-m", "nope"], tmp_path / "other", lambda: False)


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(5))) == 5
