"""The forwarder hands orders on to the workers of their next hops."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.wire.address import Address
from pipeline.wire.links import listen
from pipeline.wire.messages import Hop, Order, Orders
from pipeline.worker.forwarder import Forwarder

EPOCH, WORKER = 3, 5
ORDER = Order(1, 0, 0, 0, Hop(1, WORKER, 9, 0, 1, False, (), ()), b"", "")


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """With a short path, as sockets need it."""
    with tempfile.TemporaryDirectory(dir=os.environ["TRTLAB_RUN_DIR"]) as folder:
        yield Path(folder)


@pytest.fixture
def forwarder(run_dir: Path) -> Iterator[Forwarder]:
    made = Forwarder(run_dir, EPOCH)
    yield made
    made.close()


def test_orders_go_to_the_worker_of_their_hop_and_none_to_one_that_has_died(forwarder: Forwarder, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(WORKER))
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(5000) == [Orders(EPOCH, (ORDER,))]
    forwarder.peer_gone(WORKER)
    # It was ordered before the worker died.
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(200) == []
    inbox.close()


def test_a_worker_that_was_never_connected_to_may_have_died(forwarder: Forwarder, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(WORKER))
    forwarder.peer_gone(WORKER)
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(200) == []
    inbox.close()
