"""A node of dora: it passes a tensor on, or, with the word `ends`, its stamps."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow
from dora import Node

from bench.peers.foreign.exchange import stamp_of

if __name__ == "__main__":
    node = Node()
    for event in node:
        if event["type"] == "STOP":
            break
        if event["type"] != "INPUT":
            continue
        if "ends" in sys.argv:
            stamp = stamp_of(event["value"].to_numpy(zero_copy_only=True))
            node.send_output("out", pyarrow.array(np.frombuffer(stamp, np.uint8)), {})
        else:
            node.send_output("out", event["value"], {})
