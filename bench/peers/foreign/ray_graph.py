"""Ray's compiled graph: three actors, whose channels of shared memory are made once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_enable_metrics_collection="0")

import ray
from ray.dag import InputNode

from bench.peers.foreign.exchange import Exchange, stamp_of
from bench.peers.foreign.talk import serve

__all__ = ["RayGraph"]

_PATIENCE_S = 30.0
_HEAD_BYTES = 1 << 16


class Stage:
    """An actor."""

    def pass_on(self, tensor: Any) -> Any:
        return tensor

    def ends(self, tensor: Any) -> bytes:
        return stamp_of(tensor)


class RayGraph(Exchange):
    """See above."""

    _graph: Any = None

    def start(self, nbytes: int, window: int) -> None:
        ray.init(
            num_cpus=1, object_store_memory=1 << 30, include_dashboard=False, _node_ip_address="127.0.0.1",
            logging_level="error", log_to_driver=False, _temp_dir=os.path.abspath("ray"),
        )  # fmt: skip
        actor: Any = ray.remote(num_cpus=0.1)(Stage)
        a, b, c = (actor.remote() for _ in range(3))
        with InputNode() as tensor:
            graph = c.ends.bind(b.pass_on.bind(a.pass_on.bind(tensor)))
        self._graph = graph.experimental_compile(
            _buffer_size_bytes=nbytes + _HEAD_BYTES, _max_inflight_executions=window + 1
        )
        self._answers: deque[Any] = deque()

    def submit(self, number: int, place: Any) -> None:
        self._answers.append(self._graph.execute(place))

    def collect(self) -> Sequence[bytes]:
        return [ray.get(self._answers.popleft(), timeout=_PATIENCE_S)]

    def close(self) -> None:
        if self._graph is not None:
            self._graph.teardown(kill_actors=True)
        ray.shutdown()


if __name__ == "__main__":
    serve(RayGraph())
