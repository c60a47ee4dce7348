"""The driver's side: orders in, answers out, the subject closed in any case."""

from __future__ import annotations

import io
import json
import subprocess
import sys

CODE = """
from bench.peers.foreign.talk import serve

class TornTensor(RuntimeError): pass

class Subject:
    def setup(self, nbytes, window): print("to the log"); self.window = window
    def latency(self, seconds): return [seconds]
    def throughput(self, seconds, window):
        if window > self.window: raise TornTensor("torn")
        return 7, seconds
    def close(self): print("closed")

serve(Subject())
"""


def test_orders_are_answered_line_by_line_and_prints_go_to_the_log() -> None:
    orders = [
        {"do": "setup", "nbytes": 8, "window": 2}, {"do": "latency", "seconds": 0.5},
        {"do": "throughput", "seconds": 0.5, "window": 2}, {"do": "throughput", "seconds": 0.5, "window": 3},
    ]  # fmt: skip
    given = io.StringIO()
    for order in orders:
        given.write(json.dumps(order) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=given.getvalue(), capture_output=True, text=True, check=True, timeout=60
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"answer": None}, {"answer": [0.5]}, {"answer": [7, 0.5]}, {"error": "TornTensor: torn", "torn": True},
    ]  # fmt: skip
    assert done.stderr.splitlines() == ["to the log", "closed"]
