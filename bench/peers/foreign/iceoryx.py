"""iceoryx2: publish and subscribe through two relay processes, with an event to wake the next one.

Its messages are handles of 16 bytes into memory that the caller shares, or, with the word `copy`, the tensors:
a sample belongs to its publisher, so a relay cannot pass it on and copies it into one of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import iceoryx2
import numpy as np

from bench.peers.foreign.exchange import Exchange, stamp_of
from bench.peers.foreign.talk import serve

__all__ = ["Iceoryx"]

_HANDLE = 16
_CONNECT_S = 0.3
_START_S = 30.0


class _Hop:
    """One end of a service: what is published, and the event that tells so."""

    def __init__(self, node: Any, name: str, window: int) -> None:
        self._messages = (
            node.service_builder(iceoryx2.ServiceName.new(f"{name}/tensors"))
            .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
            .subscriber_max_buffer_size(window + 2)
            .subscriber_max_borrowed_samples(window + 2)
            .enable_safe_overflow(False)
            .open_or_create()
        )
        self._events = node.service_builder(iceoryx2.ServiceName.new(f"{name}/events")).event().open_or_create()

    def publish(self, nbytes: int) -> None:
        builder = self._messages.publisher_builder()
        self._publisher = builder.initial_max_slice_len(nbytes).max_loaned_samples(4).create()
        self._notifier = self._events.notifier_builder().create()

    def subscribe(self) -> None:
        self._subscriber = self._messages.subscriber_builder().create()
        self._listener = self._events.listener_builder().create()

    def connect(self) -> None:
        self._publisher.update_connections()

    def loan(self, nbytes: int) -> tuple[Any, Any]:
        sample = self._publisher.loan_slice_uninit(nbytes)
        return sample, _array(sample)

    def send(self, sample: Any) -> None:
        sample.assume_init().send()
        self._notifier.notify()

    def take(self) -> Any:
        while (sample := self._subscriber.receive()) is None:
            self._listener.blocking_wait()
        return sample


def _array(sample: Any) -> Any:
    payload = sample.payload()
    address = ctypes.cast(payload.as_ptr(), ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(address, (payload.len(),))


def _node(prefix: str) -> Any:
    """A node whose files, which outlive a process that is killed, are in this folder and begin with `prefix`."""
    iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)
    config = iceoryx2.config.default()
    config.global_cfg.prefix = iceoryx2.FileName.new(prefix)
    config.global_cfg.root_path = iceoryx2.Path.new(f"{os.getcwd()}/iceoryx2/")
    return iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)


def _relay(prefix: str, names: Sequence[str], nbytes: int, window: int, ready: Any) -> None:
    node = _node(prefix)
    hops = [_Hop(node, name, window) for name in names]
    hops[0].subscribe()
    hops[1].publish(nbytes)
    ready.release()
    while True:
        sample = hops[0].take()
        array = _array(sample)
        loaned, target = hops[1].loan(len(array))
        np.copyto(target, array)
        hops[1].send(loaned)
        sample.delete()


class Iceoryx(Exchange):
    """See above."""

    _prefix = "bench_none_"

    def __init__(self, copy: bool) -> None:
        self._copy = copy
        self._workers: list[Any] = []

    def start(self, nbytes: int, window: int) -> None:
        self._prefix = f"bench_{os.getpid()}_{secrets.token_hex(4)}_"
        names = [f"hop/{number}" for number in range(3)]
        self._nbytes = nbytes if self._copy else _HANDLE
        context = multiprocessing.get_context("fork")
        ready = context.Semaphore(0)
        self._memory = mmap.mmap(-1, nbytes * window)
        for number in range(2):
            ends = (self._prefix, names[number : number + 2], self._nbytes, window, ready)
            worker = context.Process(target=_relay, args=ends, daemon=True)
            worker.start()
            self._workers.append(worker)
        node = self._node = _node(self._prefix)
        self._out, self._back = _Hop(node, names[0], window), _Hop(node, names[2], window)
        self._out.publish(self._nbytes)
        self._back.subscribe()
        for _ in self._workers:
            if not ready.acquire(timeout=_START_S):
                raise TimeoutError(f"a relay was not ready within {_START_S:g} s")
        time.sleep(_CONNECT_S)
        self._out.connect()

    def places(self, nbytes: int, window: int) -> Sequence[Any]:
        whole = np.frombuffer(self._memory, np.uint8)
        whole.fill(0)
        self._views = [whole[number * nbytes : (number + 1) * nbytes] for number in range(window)]
        return self._views

    def place(self, number: int) -> Any:
        self._sample, array = self._out.loan(self._nbytes)
        if self._copy:
            return array
        array.view(np.int64)[0] = number
        return self._views[number]

    def submit(self, number: int, place: Any) -> None:
        self._out.send(self._sample)

    def collect(self) -> Sequence[bytes]:
        sample = self._back.take()
        array = _array(sample)
        stamp = stamp_of(array if self._copy else self._views[int(array.view(np.int64)[0])])
        sample.delete()
        return [stamp]

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.join()
        self._workers = []
        for path in Path("/dev/shm").glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    serve(Iceoryx("copy" in sys.argv))
