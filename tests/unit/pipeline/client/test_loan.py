"""A loan: the slot of one request, from the beginning of a block until it is sent, or until the end of the block."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.client.copies import RETRIES
from pipeline.client.loan import Loan
from pipeline.client.shared import SharedClient
from pipeline.errors import ClientMisuse, NotInTime
from tests.unit.pipeline.client.served import Served, x_and_y
from tests.unit.pipeline.client.test_shared import answer_of

SHAPES = {"x": (16,), "y": (16,)}


def loan_of(client: SharedClient, timeout_s: float | None = 30) -> Loan:
    return Loan(client, SHAPES, timeout_s)


def fill(loan: Loan, number: int) -> None:
    for name, data in x_and_y(number).items():
        loan[name][...] = np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("retries", [0, 2])
def test_what_is_written_into_it_is_what_is_sent(shared: SharedClient, served: Served, retries: int) -> None:
    with loan_of(shared) as loan:
        assert (list(loan), len(loan)) == (["x", "y"], 2)
        fill(loan, 5)
        array = loan["x"]
        future = loan.infer(retries=retries)
        assert not array.flags.writeable
        assert answer_of(future) == served.expected(5)
        with pytest.raises(ClientMisuse, match="this slot is not lent now"):
            loan.infer()
    # For retries the inputs are copied, and nothing is otherwise.
    assert shared.io.session.copies.by_reason().get(RETRIES, 0) == (32 if retries else 0)


def test_outside_its_block_it_is_refused_and_it_is_for_one_request(shared: SharedClient) -> None:
    loan = loan_of(shared)
    with pytest.raises(ClientMisuse, match="this slot is not lent now"):
        loan["x"]
    with loan:
        assert "lent" in repr(loan)
        with pytest.raises(KeyError, match="input 'z': expected one of x, y"):
            loan["z"]
    with pytest.raises(ClientMisuse, match="this slot is not lent now"):
        loan["x"]
    with pytest.raises(ClientMisuse, match="a loan is for one request"):
        loan.__enter__()


def test_a_slot_that_is_not_sent_goes_back(shared: SharedClient, served: Served) -> None:
    with loan_of(shared) as loan:
        array = loan["x"]
        served.until(lambda: sum(served.pipeline.in_use) > 0)
    assert not array.flags.writeable
    shared.close()
    served.until_free()


def test_a_slot_that_does_not_come_in_time_is_not_waited_for(shared: SharedClient, served: Served) -> None:
    served.paused = True
    with pytest.raises(NotInTime, match=r"no slot became free within 0\.05 s"):
        loan_of(shared, 0.05).__enter__()
    assert shared.io.queue.outstanding == 0
    served.paused = False
    shared.close()
    served.until_free()


def test_a_loan_that_outlives_its_block_and_its_client_keeps_no_slot(shared: SharedClient, served: Served) -> None:
    with loan_of(shared) as loan:
        shared.close()
    served.until_free()
    with pytest.raises(ClientMisuse, match="this slot is not lent now"):
        loan["x"]


def test_a_client_that_is_closed_while_another_thread_writes_keeps_the_slot_for_it(
    shared: SharedClient, served: Served, run_dir: Path
) -> None:
    writes, closed = threading.Event(), threading.Event()
    spoilt: list[bool] = []

    def write() -> None:
        with loan_of(shared) as loan:
            part = memoryview(loan["x"])[:8]
            writes.set()
            closed.wait(30)
            with SharedClient.connect(run_dir) as other:
                loans = [loan_of(other) for _ in range(3)]
                for each in loans:
                    each.__enter__()
                    fill(each, 7)
                # As C code does that began before: the array itself is read-only by now.
                part[:] = b"\1" * 8
                spoilt.extend(each["x"].tobytes() != x_and_y(7)["x"] for each in loans)
                for each in loans:
                    each.__exit__()

    thread = threading.Thread(target=write)
    thread.start()
    assert writes.wait(30)
    shared.close()
    closed.set()
    thread.join(30)
    assert spoilt == [False] * 3
    served.until_free()
    served.until(lambda: not served.pipeline.scheduler.ingress.clients)
