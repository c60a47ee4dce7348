"""Which user may send what to the scheduler, and to clients, of a run with a group."""

from __future__ import annotations

import pytest

from pipeline.errors import OtherProtocol, WireError
from pipeline.wire.messages import MESSAGES, AskStatus, Bye, Gone, Hello, Message, Stop, Submit
from pipeline.wire.peers import Peers, SchedulersOnly

OWN, APP, OTHER = 1001, 1002, 1003
CLIENTS = {7: APP, 8: OTHER}

OF_CLIENTS = {"Hello", "Loan", "Submit", "Cancel", "Again", "Bye", "AskStatus", "AskStory"}


def peer(user: int) -> str:
    return f"localhost:{user}:{user}:4711"


@pytest.fixture
def peers() -> Peers:
    return Peers(OWN, CLIENTS.get)


def test_the_runs_own_user_may_send_everything(peers: Peers) -> None:
    for message in (Stop(), Hello(99, "")):
        assert peers.checked(message, peer(OWN)) is message


def test_another_user_may_speak_for_its_own_clients_alone(peers: Peers) -> None:
    for message in (Hello(7, ""), Submit(7, 0, (), ()), Bye(7, ()), AskStatus(7)):
        assert peers.checked(message, peer(APP)) is message
        refused = peers.checked(message, peer(OTHER))
        assert isinstance(refused, WireError)
        assert str(refused) == (
            f"a {type(message).__name__} from user {OTHER} in the name of client 7, which is not that user's"
        )
        assert refused.client is None


@pytest.mark.parametrize("kind", [cls for cls in MESSAGES.values() if cls.__name__ in OF_CLIENTS])
def test_another_user_may_send_all_that_a_client_says(peers: Peers, kind: type[Message]) -> None:
    fields = [name == "client" and 7 for name in kind.__struct_fields__]
    message = kind(*fields)
    assert peers.checked(message, peer(APP)) is message
    assert isinstance(peers.checked(message, peer(OTHER)), WireError)


def test_no_client_is_spoken_for_that_has_no_lock(peers: Peers) -> None:
    assert isinstance(peers.checked(Hello(9, ""), peer(APP)), WireError)


def test_a_client_whose_lock_was_removed_since_is_still_that_users(peers: Peers) -> None:
    locks = dict(CLIENTS)
    peers = Peers(OWN, locks.get)
    peers.checked(Hello(7, ""), peer(APP))
    del locks[7]
    assert peers.checked(bye := Bye(7, ()), peer(APP)) is bye
    assert isinstance(peers.checked(bye, peer(OTHER)), WireError)


def test_the_users_of_any_number_of_clients_take_no_more_memory_than_those_of_4096() -> None:
    asked: list[int] = []

    def user_of(number: int) -> int:
        asked.append(number)
        return APP

    peers = Peers(OWN, user_of)
    for number in (*range(4096), *range(4096), 5000, 0):
        assert not isinstance(peers.checked(Hello(number, ""), peer(APP)), WireError)
    assert asked == [*range(4096), 5000, 0]


@pytest.mark.parametrize("kind", [cls for cls in MESSAGES.values() if cls.__name__ not in OF_CLIENTS])
def test_no_other_user_may_send_what_no_client_sends(peers: Peers, kind: type[Message]) -> None:
    message = kind(*[None] * len(kind.__struct_fields__))
    refused = peers.checked(message, peer(APP))
    assert isinstance(refused, WireError)
    assert str(refused) == f"a {kind.__name__} from user {APP}: only processes of the run's own user may send it"


@pytest.mark.parametrize("what", ["", "localhost", "127.0.0.1:3", "localhost:x:0:1", "localhost:-1:0:1"])
def test_a_sender_that_is_not_known_is_another_user(peers: Peers, what: str) -> None:
    assert isinstance(peers.checked(Stop(), what), WireError)
    assert isinstance(peers.checked(Hello(7, ""), what), WireError)


def test_what_cannot_be_read_is_answered_to_that_users_own_clients_alone(peers: Peers) -> None:
    for client, told in ((7, 7), (8, None), (9, None), (None, None)):
        error = WireError("what is this")
        error.client = client
        assert peers.checked(error, peer(APP)) is error
        assert error.client == told


def test_a_hello_of_another_version_is_answered_to_that_users_own_clients_alone(peers: Peers) -> None:
    for client, told in ((7, 7), (8, None), (9, None)):
        error = OtherProtocol("protocol 99")
        error.client = client
        assert peers.checked(error, peer(APP)) is error
        assert error.client == told


def test_a_client_listens_to_the_runs_own_user_alone() -> None:
    schedulers = SchedulersOnly(OWN)
    gone = Gone(9, "it is said")
    assert schedulers.checked(gone, peer(OWN)) is gone
    other_version = OtherProtocol("protocol 99")
    for message in (gone, other_version):
        for sender in (peer(APP), ""):
            refused = schedulers.checked(message, sender)
            assert type(refused) is WireError
    assert str(schedulers.checked(gone, peer(APP))) == (
        f"a message from user {APP} to a client: only user {OWN}, the pipeline's, sends to it"
    )
