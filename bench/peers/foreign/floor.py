"""The floor of `bench.run` over ZeroMQ, with two relays."""

from __future__ import annotations

from bench.floors.zmq_ring import ZmqRing
from bench.peers.foreign.talk import serve

if __name__ == "__main__":
    serve(ZmqRing(2))
