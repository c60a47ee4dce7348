"""The forwarder hands orders on to the workers of their next hops."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.wire.address import Address
from pipeline.wire.columns import PassedColumns
from pipeline.wire.links import listen
from pipeline.wire.messages import OK, Hop, Notice, Order, Orders, Passed
from pipeline.worker.forwarder import Forwarder, untold
from tests.unit.pipeline.wire.test_columns import u32, u64

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


def test_orders_that_are_handed_on_say_up_to_which_request_all_are_over(forwarder: Forwarder, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(WORKER))
    forwarder.settled = 7
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(5000) == [Orders(EPOCH, (ORDER,), (), 7)]
    # The next scheduler numbers its requests anew: none of them is over.
    forwarder.begin(EPOCH + 1)
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(5000) == [Orders(EPOCH + 1, (ORDER,))]
    inbox.close()


def test_of_requests_that_are_over_only_what_says_more_than_that_is_told() -> None:
    columns = PassedColumns(u64(3, 6), u32(0, 0), ())
    notice = Notice(3, 0, OK, "", (), b"", (), 0, 5, 9, "")
    late = [Passed(5, 0, b""), columns, notice, Passed(6, 0, b"")]
    assert untold(late, 6) == [columns, notice, Passed(6, 0, b"")]
    assert untold(late, 7) == [notice], "the scheduler learns how large slots should be"


def test_a_worker_that_was_never_connected_to_may_have_died(forwarder: Forwarder, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(WORKER))
    forwarder.peer_gone(WORKER)
    forwarder.forward({WORKER: [ORDER]})
    assert inbox.receive(200) == []
    inbox.close()
