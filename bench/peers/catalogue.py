"""Catalogue: the peers, in the order of the table: where each runs, and what its numbers contain.

A request is the same for all of them: one memcpy of 602,112 B into where the peer takes tensors from, a stamp in its
first and last 8 bytes, three stages that touch nothing, and the check of both stamps. Where a tensor would have to be
copied back, the third stage answers with the two stamps alone, as a picture goes in and a few numbers come out.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PEERS", "Peer", "chosen"]


@dataclass(frozen=True)
class Peer:
    """One way to move a tensor through three stages."""

    name: str
    title: str
    module: str
    """The driver, in `bench.peers.foreign`; further words are its arguments."""
    copies: str
    """How often the bytes of a tensor are copied, after the caller's own memcpy."""
    includes: str
    """What is in the numbers, or is missing from them."""
    environment: str = ""
    """The folder of build/ whose interpreter runs the driver; the project's own if it is empty."""
    server: str = ""
    """A further folder, of the server, if the driver runs elsewhere."""
    package: str = ""
    """Whose version is written beside the title."""


_SCHEDULED = "a scheduler, admission, deadlines, retries, a process for each stage"

_ALL = (
    Peer("pipeline", "this pipeline", "ours", "none", _SCHEDULED, package="trtlab"),
    Peer("compiled", "this pipeline, compiled", "ours", "none", _SCHEDULED, "peers/compiled", package="trtlab"),
    Peer(
        "colocated", "this pipeline, compiled, stages colocated", "ours colocate", "none",
        "the same, with the three stages in one process", "peers/compiled", package="trtlab",
    ),
    Peer(
        "zmq-2", "bare ZeroMQ, two relays", "floor", "none",
        "a floor: handles over PUSH/PULL, two relays; schedules nothing", package="pyzmq",
    ),
    Peer(
        "queue", "multiprocessing.Queue", "queues", "12: pickled, into a pipe and out of it, unpickled, at three hops",
        "three processes; schedules nothing",
    ),
    Peer(
        "torch", "torch.multiprocessing.Queue", "torch_queues", "none: tensors in shared memory, made once",
        "three processes; schedules nothing", "peers/torch",
        package="torch",
    ),
    Peer(
        "mosec", "mosec", "mosec_server", "through a socket, then into and out of Plasma's shared memory at each hop",
        "HTTP in and out; batches, a queue for each stage, three worker processes", server="mosec", package="mosec",
    ),
    Peer(
        "triton", "Triton 2.51, ensemble of three Python models", "triton_server",
        "into and out of the stubs' shared memory at each model",
        "gRPC, the input in registered shared memory; 64 threads call it", server="triton",
    ),
    Peer(
        "litserve", "LitServe", "litserve_caller", "through a socket, then pickled into and out of a manager",
        "HTTP; a manager process; the three stages are calls in one worker", "peers/litserve", package="litserve",
    ),
    Peer(
        "iceoryx2", "iceoryx2, handles only", "iceoryx", "none: its messages are handles into memory of the caller's",
        "two relays, as zmq-2; schedules nothing", "peers/iceoryx2", package="iceoryx2",
    ),
    Peer(
        "iceoryx2-copy", "iceoryx2, tensors copied on", "iceoryx copy", "2: each relay copies into a sample of its own",
        "two relays, as zmq-2; schedules nothing", "peers/iceoryx2", package="iceoryx2",
    ),
    Peer(
        "ray-graph", "Ray compiled graph", "ray_graph", "serialised into a channel of shared memory at each hop",
        "three actors; a fixed graph, no scheduling for each request", "peers/ray", package="ray",
    ),
    Peer(
        "ray-serve", "Ray Serve", "ray_serve", "through a socket, then serialised between replicas at each hop",
        "HTTP in and out; routing, three deployments", "peers/ray", package="ray",
    ),
    Peer(
        "bentoml", "BentoML", "bentoml_caller",
        "through a socket, then pickled out of band into and out of a socket at each hop, and put into batches there",
        "HTTP in and out; three services of a process each; adaptive batches", "peers/bentoml", package="bentoml",
    ),
    Peer(
        "dora", "dora-rs", "dora_flow", "1 at each hop, into shared memory, with Arrow",
        "three nodes and the daemon; queues of 100 with backpressure, which drop if they overrun", "peers/dora",
        package="dora-rs",
    ),
)  # fmt: skip

PEERS = {peer.name: peer for peer in _ALL}
"""By name."""


def chosen(text: str) -> list[Peer]:
    """The peers of a list with commas, in the order of the table.

    Raises:
        ValueError: there is none of that name.
    """
    names = text.split(",")
    if unknown := sorted(set(names) - set(PEERS)):
        raise ValueError(f"no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    return [peer for peer in _ALL if peer.name in names]
