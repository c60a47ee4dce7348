"""torch.multiprocessing.Queue between three processes, with tensors in shared memory that are made once and go around.

The receiving process keeps what it has mapped. So a hop costs a pickled handle, and no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.multiprocessing as torch_processes

from bench.peers.foreign.exchange import stamp_of
from bench.peers.foreign.queues import PATIENCE_S, Queues
from bench.peers.foreign.talk import serve

__all__ = ["TorchQueues"]


def _pass_on(source: Any, target: Any) -> None:
    torch.set_num_threads(1)
    kept = {}  # otherwise it is mapped anew each time that it comes
    while (tensor := source.get()) is not None:
        kept[tensor.data_ptr()] = tensor
        target.put(tensor)


class TorchQueues(Queues):
    """See above."""

    def start(self, nbytes: int, window: int) -> None:
        torch.set_num_threads(1)
        # By name and not as descriptors: one message less at each hop.
        torch_processes.set_sharing_strategy("file_system")
        context = torch_processes.get_context("fork")
        self._tensors = [torch.zeros(nbytes, dtype=torch.uint8).share_memory_() for _ in range(window)]
        self._queues = [context.Queue() for _ in range(4)]
        for number in range(3):
            ends = (self._queues[number], self._queues[number + 1])
            worker = context.Process(target=_pass_on, args=ends, daemon=True)
            worker.start()
            self._workers.append(worker)

    def places(self, nbytes: int, window: int) -> Sequence[Any]:
        return [tensor.numpy() for tensor in self._tensors]

    def submit(self, number: int, place: Any) -> None:
        self._queues[0].put(self._tensors[number])

    def collect(self) -> Sequence[bytes]:
        return [stamp_of(self._queues[3].get(timeout=PATIENCE_S).numpy())]


if __name__ == "__main__":
    serve(TorchQueues())
