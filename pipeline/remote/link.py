"""Link: what carries requests to a server, and answers back; the contract of `grpc_link` and `http_link`.

    encode     in the caller's thread: when it returns, the caller may change its arrays
    send       returns at once; `done` is called once, in a thread of the link's, with the response or a Failure
    ask        a question beside inference; waits for the answer
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.client.copies import Copies
from pipeline.kserve.values import InferRequest, InferResponse
from pipeline.remote.failures import Failure

__all__ = ["Done", "Link", "Options", "Part", "Payload", "Sent"]

Done = Callable[[InferResponse | Failure | None], None]
"""Is told how it went; None: the end of an answer in parts."""
Part = Callable[[InferResponse], None]
"""Is given each part of an answer in parts."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is reached."""

    token: str = ""
    ca: str = ""
    """Path of a PEM file; empty: the system's authorities."""
    certificate: str = ""
    """Path of a PEM file of the client's, for servers that want one."""
    key: str = ""
    shared_memory: str = ""
    """How names of regions of shared memory begin, with a slash; empty: none are made."""
    binary: bool | None = None
    """Over HTTP, whether tensors travel as bytes; None: if the server takes that."""
    connections: int = 16
    """Of HTTP: requests under way at one time; gRPC has them all on one."""
    max_response: int = 1 << 30
    """Bytes of the largest response that is taken."""


class Sent(Protocol):
    """A request that was sent."""

    def cancel(self) -> object:
        """Break it off. `done` may be called all the same."""


class Payload:
    """A request as it travels; it may be sent several times. It has nothing of the caller's arrays.

    Args:
        request: of which it is made.
        frame: its bytes.
        head: of HTTP, the bytes of the JSON in front; None: all is JSON.
    """

    def __init__(self, request: InferRequest, frame: bytes, head: int | None = None) -> None:
        self.model = request.model
        self.version = request.version
        self.frame = frame
        self.head = head
        #: The trace that it is part of, which travels beside it (see `pipeline.wire.traceparent`); empty: of none.
        self.traceparent = ""

    def release(self) -> None:
        """It is over: the server has answered it, and will not touch it any more."""

    def abandon(self) -> None:
        """It is over for the caller; the server may still be at it."""


class Link(ABC):
    """A way to one server."""

    @abstractmethod
    def encode(self, request: InferRequest, room: Mapping[str, int], copies: Copies) -> Payload:
        """The request as it travels.

        Args:
            room: bytes of each output of the model, by name; 0: that is not known before.
            copies: counts what will be copied.

        Raises:
            KserveError: it cannot travel so.
        """

    @abstractmethod
    def send(self, payload: Payload, limit_s: float | None, done: Done) -> Sent:
        """Send it.

        Args:
            limit_s: seconds until its deadline; None: none.
        """

    @abstractmethod
    def stream(self, payload: Payload, limit_s: float | None, part: Part, done: Done) -> Sent:
        """Send it, for an answer in parts."""

    @abstractmethod
    def ask(self, question: str, limit_s: float, **fields: Any) -> Mapping[str, Any]:
        """What the server answers.

        Args:
            question: "live", "ready", "metadata", "model_ready", "model_metadata", "model_config" or "index"; the
                fields of the last but one are name and version.

        Raises:
            KserveError: it says no, or it says nothing (UNAVAILABLE, DEADLINE_EXCEEDED).
        """

    def learn(self, metadata: Mapping[str, Any]) -> None:
        """What the server says of itself, once it is known."""
        del metadata

    @abstractmethod
    def close(self) -> None:
        """End it; what is under way fails. A second call does nothing."""

    @abstractmethod
    def why(self) -> str:
        """Which transport it is, and why not a faster one."""
