"""Server: one server of KServe v2, with what is known of it: the inside that a manager, its runners and futures share.

It is closed when it is dropped, or by its manager's `stop`.
"""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from contextlib import suppress
from itertools import count
from typing import Any

from pipeline.client.copies import Copies
from pipeline.errors import KserveError, PipelineError, Unavailable
from pipeline.remote.address import Address
from pipeline.remote.description import Description, described
from pipeline.remote.exchange import Exchange
from pipeline.remote.failures import Failure, error_of
from pipeline.remote.link import Link
from pipeline.remote.session import Session
from stages.hints import did_you_mean

__all__ = ["Server"]

#: Seconds that the answer to one question may take.
_ASK_S = 10.0
_LOOK_S = 0.1
#: That the server is not there: asking again may help.
_ABSENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
#: That a server does not know the question: over HTTP a path that it has not, over gRPC a method.
_UNKNOWN = ("NOT_FOUND", "UNIMPLEMENTED")


class Server:
    """A server, from the first question until it is closed.

    Args:
        address: where it is.
        link: to it.
        pending: how many requests may be under way.
        patience_s: for how long a request waits for a server that cannot be reached.
        silence_s: after so many seconds without a word, what is under way is lost.
    """

    def __init__(self, address: Address, link: Link, pending: int, patience_s: float, silence_s: float) -> None:
        self.address = address
        self.link = link
        self.copies = Copies()
        self.patience_s = patience_s
        self.exchange = Exchange(link, Session(patience_s, silence_s), pending)
        self.metadata: dict[str, Any] = {}
        #: What the server did not say, and what follows.
        self.notes: list[str] = []
        self._token = secrets.token_hex(3)
        self._numbers = count(1)
        self._described: dict[tuple[str, str, int | None], Description] = {}
        self._mutex = threading.RLock()
        # At the end of the interpreter, connections end by themselves.
        weakref.finalize(self, _abandon, self.exchange).atexit = False

    def __str__(self) -> str:
        return str(self.metadata.get("name") or "the server") + f" at {self.address}"

    def next_id(self) -> str:
        """The id of one more request, as `pipeline status --request` of a server of ours has no other of."""
        return f"{self._token}-{next(self._numbers)}"

    # -- questions ------------------------------------------------------------------------------

    def ask(self, question: str, limit_s: float = _ASK_S, **fields: Any) -> Any:
        """What the server answers to a question of `Link.ask`.

        Raises:
            KserveError: it says no, or nothing.
            ClientMisuse: the manager was stopped, or is of another process.
        """
        self.exchange.refuse_child()
        if self.exchange.closed is not None:
            raise type(self.exchange.closed)(*self.exchange.closed.args)
        return self.link.ask(question, limit_s, **fields)

    def await_live(self, limit_s: float) -> None:
        """Wait until it answers, and learn its name.

        Raises:
            Unavailable: it does not within `limit_s` seconds, or is a server of something else.
            InvalidRequest: it wants a token, or another one.
        """
        end = time.monotonic() + limit_s
        while True:
            left = end - time.monotonic()
            try:
                self.metadata = dict(self.ask("metadata", max(0.1, min(_ASK_S, left))))
                self.link.learn(self.metadata)
                return
            except KserveError as error:
                if error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                    raise error_of(Failure.told(error)) from None
                if error.code not in _ABSENT:
                    # It is there, and has no words for what it is.
                    if error.code in _UNKNOWN and not self._says_how_it_is():
                        raise self._of_something_else(error) from None
                    self.notes.append(f"the server tells no metadata of its own ({error})")
                    return
                if time.monotonic() >= end:
                    raise Unavailable(
                        f"no server of KServe v2 answers at {self.address} within {limit_s:g} s: {error}"
                    ) from None
            time.sleep(_LOOK_S)

    def _says_how_it_is(self) -> bool:
        """Whether it knows a question about its health, which all servers of KServe v2 do, whatever it answers."""
        for question in ("live", "ready"):
            try:
                self.ask(question)
            except KserveError as error:
                if error.code in _UNKNOWN:
                    continue
            return True
        return False

    def _of_something_else(self, error: KserveError) -> Unavailable:
        if self.address.is_grpc:
            kind, asked, port = "gRPC", "ServerMetadata, ServerLive and ServerReady", "8001"
        else:
            kind, asked, port = "HTTP", "/v2, /v2/health/live and /v2/health/ready", "8000"
        return Unavailable(
            f"expected a server of KServe v2 at {self.address}, found a server that knows none of {asked} "
            f"({_short(str(error))}): perhaps this is another port, such as that of metrics, or of another service; "
            f"give the URL of its port for {kind}, which is often {port}"
            f"{'' if self.address.is_grpc else ', with the path in front of /v2 if there is one'}"
        )

    def models(self) -> list[str]:
        """The names of the models that it lists.

        Raises:
            KserveError: it does not list any, or does not answer.
        """
        found = self.ask("index", ready=False).get("models") or []
        names = [row.get("name") if isinstance(row, dict) else row for row in found]
        return sorted({name for name in names if isinstance(name, str)})

    def describe(self, name: str, version: str = "", max_batch_size: int | None = None) -> Description:
        """The model of this name; it is asked for once.

        Raises:
            Unavailable: there is no such model, it is not ready, or the server does not answer.
        """
        key = name, version, max_batch_size
        if (there := self.known(*key)) is not None:
            return there
        try:
            metadata = self.ask("model_metadata", name=name, version=version)
        except KserveError as error:
            raise self._missing(name, error) from None
        config: Any
        try:
            config = self.ask("model_config", name=name, version=version)
        except KserveError as error:
            if error.code in _ABSENT:
                raise self._missing(name, error) from None
            config = _short(str(error))
        try:
            found = described(name, version, metadata, config, max_batch_size)
        except KserveError as error:
            raise Unavailable(f"{self}: {error}") from None
        with self._mutex:
            self._described[key] = found
        return found

    def known(self, name: str, version: str = "", max_batch_size: int | None = None) -> Description | None:
        """What `describe` was told before; None: it was not asked."""
        with self._mutex:
            return self._described.get((name, version, max_batch_size))

    def why_not_ready(self, name: str, version: str = "") -> str:
        """Why a model is not ready; empty: it is."""
        try:
            if self.ask("model_ready", name=name, version=version).get("ready"):
                return ""
        except KserveError as error:
            # Servers disagree on the code for a model that they do not know.
            return _short(str(error)) or error.code
        return "the server says that it is not ready"

    def _missing(self, name: str, error: KserveError) -> Unavailable:
        """Why there is nothing to be had of this model."""
        if error.code in _ABSENT:
            return Unavailable(f"{self} does not answer: {error}")
        hint = ""
        with suppress(KserveError, PipelineError):
            hint = did_you_mean(name, self.models())
        return Unavailable(f"{self} has no model {name!r} that is ready: {_short(str(error)) or error.code}{hint}")

    def close(self, error: PipelineError) -> None:
        """See `Exchange.close`."""
        self.exchange.close(error)


def _short(text: str) -> str:
    """The first line of what a server says, which may be a traceback."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:297]}..."


def _abandon(exchange: Exchange) -> None:
    exchange.close(Unavailable("the manager was dropped"))
