"""Peers: which user may send what to the scheduler, and to the clients, of a run that other users have access to. Pure.

In a run with a group, the group's members can connect to the scheduler's inbox, to which its workers and the supervisor
send as well. So each message is held against the user that the kernel names for its connection (SO_PEERCRED, see
unix(7)):

    the run's own user         all messages
    another user               those of clients, each under the number of a client whose lock that user holds

So no member of the group can stop the pipeline, speak for a worker, or speak for a client of another user.

A client's inbox is open to the group as well, since the scheduler is no other user to it than any member. There, only
the run's own user is listened to: no member of the group can speak for the scheduler.

All users that have no number in this user namespace are one here (65534): those are not told apart.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.errors import WireError
from pipeline.wire.messages import Again, AskStatus, AskStory, Bye, Cancel, Hello, Loan, Message, Submit

__all__ = ["Peers", "SchedulersOnly"]

_OF_CLIENTS = (Hello, Loan, Submit, Cancel, Again, Bye, AskStatus, AskStory)

#: Numbers whose user is remembered; more than there can be clients.
_REMEMBERED = 4096


class Peers:
    """The users that send to one inbox.

    Args:
        user: the number of the run's own user.
        user_of: client's number -> the user that holds its lock, or None if there is no such client.
    """

    def __init__(self, user: int, user_of: Callable[[int], int | None]) -> None:
        self._user = user
        self._user_of = user_of
        #: A client's number is drawn at random for each life, so its user never changes.
        self._known: dict[int, int] = {}

    def checked(self, message: Message | WireError, peer: str) -> Message | WireError:
        """The message, or why it is refused.

        Args:
            message: what has come; an error if that was no message.
            peer: "localhost:<uid>:<gid>:<pid>", what libzmq knows of the connection that it came by.
        """
        user = _user(peer)
        if user == self._user:
            return message
        if isinstance(message, WireError):
            # One of another version is answered at the socket of the number that it names: that must be its own.
            if message.client is not None and not self._is_of(message.client, user):
                message.client = None
            return message
        if not isinstance(message, _OF_CLIENTS):
            return WireError(
                f"a {type(message).__name__} from user {user}: only processes of the run's own user may send it"
            )
        if not self._is_of(message.client, user):
            return WireError(
                f"a {type(message).__name__} from user {user} in the name of client {message.client:x}, which is not "
                f"that user's"
            )
        return message

    def _is_of(self, client: int, user: int | None) -> bool:
        known = self._known.get(client)
        if known is None:
            known = self._user_of(client)
            if known is None:
                # It has gone, or its lock was removed, and it makes it anew: the scheduler does not connect to it.
                return False
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[client] = known
        return known == user


class SchedulersOnly:
    """The users that send to the inbox of a client: the scheduler's, and no other.

    Args:
        user: the number of the run's own user.
    """

    def __init__(self, user: int) -> None:
        self._user = user

    def checked(self, message: Message | WireError, peer: str) -> Message | WireError:
        """The message, or why it is refused; see `Peers.checked`."""
        user = _user(peer)
        if user == self._user:
            return message
        return WireError(f"a message from user {user} to a client: only user {self._user}, the pipeline's, sends to it")


def _user(peer: str) -> int | None:
    """The user in what libzmq knows of a connection; None if the kernel has not told it."""
    parts = peer.split(":")
    return int(parts[1]) if len(parts) == 4 and parts[1].isdigit() else None
