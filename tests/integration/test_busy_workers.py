"""Python's garbage collector frees what a stage leaves behind, even if its worker is never idle."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from pipeline.testing.running import running

STAGE = '''
from stages.spec import TensorSpec

alive = 0


class Circle:
    """Refers to itself."""

    def __init__(self):
        global alive
        alive += 1
        self.me = self

    def __del__(self):
        global alive
        alive -= 1


class Careless:
    inputs = (TensorSpec("data", "uint8", (1,)),)
    outputs = (TensorSpec("alive", "int64", ()),)

    def process(self, batch):
        for row in range(len(batch)):
            for _ in range(500):
                Circle()
            batch.out(row, "alive")[...] = alive
'''

CONFIG = """
name: careless
inputs: [{name: data, dtype: uint8, shape: [1]}]
stages:
  - {name: first, use: "./careless.py:Careless"}
"""


def test_a_worker_without_rest_keeps_no_garbage(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(STAGE)
    path = tmp_path / "careless.yaml"
    path.write_text(CONFIG)
    most = 0
    with running(path) as pipeline, pipeline.client() as client:
        flying: deque[Any] = deque()
        # A thousand requests make half a million objects.
        for _ in range(1000):
            flying.append(client.submit(data=b"x"))
            if len(flying) == 4:
                with flying.popleft().get(200) as result:
                    most = max(most, int(result["alive"]))
        for future in flying:
            future.get(200).release()
    assert 10_000 < most < 100_000
