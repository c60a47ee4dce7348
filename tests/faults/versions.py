"""A pipeline whose versions say which they are, and what replaces one by the next."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.titles import in_role
from pipeline.client import Client
from pipeline.client.reloading import reload
from pipeline.errors import PipelineError
from pipeline.testing import RunningPipeline
from tests.faults.load import until
from tests.links import LINK

__all__ = ["InBackground", "Versions", "killed", "stamp", "successor"]

STAGE = """
import time
import numpy as np
from stages.spec import TensorSpec

VERSION = {version}

class Stamp:
    '''A number in, the number and the version of this file out.'''

    inputs = (TensorSpec("number", "int64", (1,)),)
    outputs = (TensorSpec("stamp", "int64", (2,)),)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def setup(self, context):
{setup}

    def process(self, batch):
        time.sleep(self.seconds)
        for row, number in enumerate(batch.rows("number")):
            batch.out(row, "stamp", (2,))[...] = (number[0], VERSION)
{process}
"""


class Versions:
    """A user's folder with a config and a stage, both of which can be written anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "stamps.yaml"
        self._told = folder / "told"

    @property
    def until_told(self) -> str:
        """A `setup` that is not over before `tell`."""
        return f"        import os\n        while not os.path.exists({str(self._told)!r}):\n            time.sleep(0.01)"

    def tell(self) -> None:
        """End it, in this version and all later ones."""
        self._told.touch()

    def write(
        self, number: int, *, setup: str = "        pass", process: str = "", canary: bool = False, **fields: Any
    ) -> Path:
        """The next version of both files."""
        seconds = fields.pop("seconds", 0.0)
        replicas = fields.pop("replicas", 2)
        # A file of its own stays there when the next version is written.
        file = fields.pop("file", "stamps")
        stages = self.folder / f"{file}.py"
        stages.write_text(STAGE.format(version=number, setup=setup, process=process))
        # Python takes what it compiled before for a file of the same size and the same second.
        os.utime(stages, (time.time(), time.time() + 10 * number))
        document = {
            "name": "stamps",
            "inputs": [{"name": "number", "dtype": "int64", "shape": [1]}],
            "stages": [{
                "name": "stamp", "use": f"./{file}.py:Stamp", "with": {"seconds": seconds}, "replicas": replicas,
                "batch": {"max_size": fields.pop("max_size", 8)},
            }],
            **LINK,
            **fields,
        }  # fmt: skip
        if canary:
            document["canary"] = {"input": str(self.folder / "canary.jsonl"), "every_s": 0.5}
            (self.folder / "canary.jsonl").write_text('{"number": [7]}\n')
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))
        return self.config


def stamp(client: Client, number: int = 1) -> int:
    """The version that answers a request."""
    answered, version = client.submit(number=[number]).get(200)["stamp"]
    assert answered == number
    return int(version)


def successor(pipeline: RunningPipeline) -> psutil.Process | None:
    """The supervisor of the newest later version, if there is one."""
    return max(in_role(pipeline.pid, "supervisor"), key=lambda child: child.create_time(), default=None)


class InBackground(threading.Thread):
    """A reload in a thread; `result` is its folder or its error."""

    def __init__(self, run: str | Path, *arguments: Any, **more: Any) -> None:
        super().__init__(daemon=True)
        self.steps: list[str] = []
        self.result: Path | PipelineError | None = None
        self._arguments = (run, *arguments)
        self._more = more
        self.start()

    def run(self) -> None:
        try:
            self.result = reload(*self._arguments, on_step=lambda step, _: self.steps.append(step), **self._more)
        except PipelineError as error:
            self.result = error

    def ended(self) -> Path | PipelineError | None:
        self.join()
        return self.result


def killed(process: psutil.Process, role: str, child_of: Callable[[int, str], psutil.Process | None]) -> None:
    """Kill a child of a supervisor, as soon as it is there."""
    until(lambda: child_of(process.pid, role))
    child = child_of(process.pid, role)
    assert child is not None
    child.kill()
