"""A developer's own file: stages that log, fail, stop at breakpoints, and say which requests they had."""

from __future__ import annotations

import json
import logging
import os
import time

import numpy as np

from stages.spec import TensorSpec

BYTES = TensorSpec("data", "uint8", ("bytes",), {"bytes": 65536})

log = logging.getLogger(__name__)


def parse(text: bytes) -> None:
    """Fails inside the standard library for b"bad..."."""
    if text.startswith(b"bad"):
        json.loads(text)
    if text == b"breakpoint":
        breakpoint()
    if text == b"pdb":
        import pdb

        pdb.set_trace()
        print("never reached")
    if text == b"die":
        os.kill(os.getpid(), 11)
    if text == b"slow":
        time.sleep(3600)


class Told:
    """Gives, for each row, what the stage knows about its request."""

    inputs = (BYTES,)
    outputs = (TensorSpec.json("who", 1024),)

    def __init__(self, returns: bool = False) -> None:
        self.returns = returns

    def process(self, batch):  # type: ignore[no-untyped-def]
        for row, (data, request) in enumerate(zip(batch.rows("data"), batch.requests)):
            log.info("at %s", data.tobytes().decode())
            parse(data.tobytes())
            if self.returns:
                return np.zeros(len(batch))
            batch.write(row, "who", {"id": request.id, "name": request.name, "child": list(request.child)})
        return None


class Words:
    """One tensor for each word."""

    inputs = (BYTES,)
    outputs = (TensorSpec("data", "uint8", ("bytes",), {"bytes": 64}, many=16),)

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row, data in enumerate(batch.rows("data")):
            words = data.tobytes().split()
            for view, word in zip(batch.out_many(row, "data", [(len(word),) for word in words]), words):
                view[...] = np.frombuffer(word, np.uint8)


class All:
    """The answers of all words."""

    inputs = (TensorSpec.json("who", 1024, many=16),)
    outputs = (TensorSpec.json("all", 16384),)

    def process(self, batch) -> None:  # type: ignore[no-untyped-def]
        for row in range(len(batch)):
            batch.write(row, "all", batch.document(row, "who"))
