"""Links: a process is reached by its address, whatever carries the messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.wire.address import SCHEDULER, SUPERVISOR, Address
from pipeline.wire.links import LINKS, Inbox, Link, Outbox, connect, forget, link_of, listen
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


@pytest.mark.parametrize("link", LINKS)
def test_each_address_is_an_inbox_of_its_own(link: Link, run_dir: Path) -> None:
    addresses = [SUPERVISOR, SCHEDULER, Address.worker(3), CLIENT]
    inboxes: list[Inbox] = [listen(run_dir, address, link=link) for address in addresses]
    outboxes: list[Outbox] = [connect(run_dir, address, inboxes[0]) for address in addresses]
    for number, outbox in enumerate(outboxes):
        assert outbox.send(Bye(number, ()))
    for number, inbox in enumerate(inboxes):
        assert received(inbox, 1) == [Bye(number, ())]
    for end in (*outboxes, *inboxes):
        end.close()
    assert [outbox.closed for outbox in outboxes] == [True] * 4
    assert [path for path in run_dir.rglob("*") if path.is_socket()] == []


@pytest.mark.parametrize("link", LINKS)
def test_a_process_may_answer_to_several_addresses(link: Link, run_dir: Path) -> None:
    inbox = listen(run_dir, Address.worker(0), Address.worker(1), signalled=True, link=link)
    outboxes = [connect(run_dir, Address.worker(number), inbox) for number in range(2)]
    sent: list[Message] = [Bye(number, ()) for number in range(2)]
    for outbox, message in zip(outboxes, sent):
        outbox.send(message)
    assert sorted(received(inbox, 2), key=str) == sent
    for end in (*outboxes, inbox):
        end.close()


@pytest.mark.parametrize("link", LINKS)
def test_what_is_left_of_an_inbox_can_be_forgotten(link: Link, run_dir: Path) -> None:
    inbox = listen(run_dir, CLIENT, link=link)
    forget(run_dir, CLIENT)
    assert list((run_dir / "clients").iterdir()) == []
    assert inbox.renew() == ["1f.sock", "1f.ring"][: LINKS.index(link) + 1]
    inbox.close()


def test_a_client_has_the_link_that_the_scheduler_has(run_dir: Path) -> None:
    assert link_of(run_dir) == "zmq"
    for link in LINKS:
        inbox = listen(run_dir, SCHEDULER, link=link)
        assert link_of(run_dir) == link
        inbox.close()


def test_ends_of_different_links_reach_each_other(run_dir: Path) -> None:
    plain, ringed = listen(run_dir, SUPERVISOR), listen(run_dir, SCHEDULER, link="ring")
    to_plain, to_ringed = connect(run_dir, SUPERVISOR, ringed), connect(run_dir, SCHEDULER, plain)
    to_plain.send(Bye(1, ()))
    to_ringed.send(Bye(2, ()))
    assert received(plain, 1) == [Bye(1, ())]
    assert received(ringed, 1) == [Bye(2, ())]
    for inbox in (plain, ringed):
        assert list(inbox.resumable()) == []
    for end in (to_plain, to_ringed):
        end.proceed()
        end.close()
    plain.close()
    ringed.close()
