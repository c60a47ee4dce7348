"""A pipeline that finds things in pictures, and detectors as those of Frigate: a REQ each, with one picture under way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zmq

from tests.finder_stage import SIDE
from tests.links import LINK

__all__ = ["HEADER", "Asker", "expected", "finder", "picture"]

HEADER = json.dumps({"shape": [1, SIDE, SIDE, 3], "dtype": "uint8", "model_type": "ssd"}).encode()
"""As Frigate writes it."""


def finder(folder: Path, **stage: Any) -> Path:
    """A config of that pipeline, in this folder."""
    shutil.copy(Path(__file__).with_name("finder_stage.py"), folder)
    find = {"name": "find", "use": "./finder_stage.py:Find", "batch": {"max_size": 4, "max_delay_ms": 1}, **stage}
    document = {
        "name": "finder",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": [SIDE, SIDE, 3]}],
        "stages": [find],
        "outputs": ["find.boxes", "find.count"],
        **LINK,
    }
    path = folder / "finder.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def picture(value: int) -> bytes:
    return np.full((1, SIDE, SIDE, 3), value, np.uint8).tobytes()


def expected(value: int) -> np.ndarray[Any, Any]:
    """What is found in it."""
    table = np.zeros((20, 6), np.float32)
    table[0] = value, 0.5, value / 256, 0.25, 0.75, 1.0
    return table


class Asker:
    """One detector of Frigate."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.RCVTIMEO, 60_000)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def ask(self, *parts: bytes) -> list[bytes]:
        self.socket.send_multipart(parts)
        return self.socket.recv_multipart()

    def error(self, *parts: bytes) -> str:
        """The reason that it is told instead of an answer."""
        (said,) = self.ask(*parts)
        assert len(said) != 480
        return str(json.loads(said)["error"])

    def found(self, value: int) -> np.ndarray[Any, Any] | None:
        """What is found in a picture; None: it was told a reason."""
        said: Sequence[bytes] = self.ask(HEADER, picture(value))
        if len(said) == 1:
            return None
        header = json.loads(said[0])
        return np.frombuffer(said[1], header["dtype"]).reshape(header["shape"])

    def close(self) -> None:
        self.socket.close()
        self._context.term()
