"""Links: a process is reached by its address, whatever carries the messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.wire import zeromq
from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.links import Inbox, Link, Outbox, connect, forget, listen
from pipeline.wire.messages import Bye, Message

CLIENT = Address.client(0x1F)


def received(inbox: Inbox, count: int) -> list[object]:
    found: list[object] = []
    while len(found) < count:
        found += inbox.receive(5000)
    return found


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "clients").mkdir()
    return tmp_path


def test_each_address_is_an_inbox_of_its_own(run_dir: Path) -> None:
    addresses = [SUPERVISOR, SCHEDULER, Address.worker(3), CLIENT]
    inboxes: list[Inbox] = [listen(run_dir, address) for address in addresses]
    outboxes: list[Outbox] = [connect(run_dir, address) for address in addresses]
    for number, outbox in enumerate(outboxes):
        assert outbox.send(Bye(number, ()))
    for number, inbox in enumerate(inboxes):
        assert received(inbox, 1) == [Bye(number, ())]
    for end in (*outboxes, *inboxes):
        end.close()
    assert [outbox.closed for outbox in outboxes] == [True] * 4
    assert [path for path in run_dir.rglob("*") if path.is_socket()] == []


def test_a_process_may_answer_to_several_addresses(run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(0), Address.worker(1), signalled=True)
    outboxes = [connect(run_dir, Address.worker(number)) for number in range(2)]
    sent: list[Message] = [Bye(number, ()) for number in range(2)]
    for outbox, message in zip(outboxes, sent):
        outbox.send(message)
    assert sorted(received(inbox, 2), key=str) == sent
    for end in (*outboxes, inbox):
        end.close()


def test_what_is_left_of_an_inbox_can_be_forgotten(run_dir: Path) -> None:
    inbox = listen(run_dir, CLIENT)
    forget(run_dir, CLIENT)
    assert list((run_dir / "clients").iterdir()) == []
    assert inbox.renew() == ["1f.sock"]
    inbox.close()


def test_zeromq_is_a_link() -> None:
    link: Link = zeromq  # mypy checks this
    assert link.listen is zeromq.listen
