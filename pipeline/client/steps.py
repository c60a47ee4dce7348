"""Steps: what threads do with a session, one at a time, and which may be interrupted at any point."""

from __future__ import annotations

import functools
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import Concatenate, ParamSpec, TypeVar, cast

from pipeline.client.calls import CALLS, NESTED, is_within
from pipeline.errors import ClientMisuse, PipelineError

__all__ = ["Steps", "step"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Steps")


def step(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A step of the session: under the mutex, in this process, and not in the middle of another one."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # First: in the child of a fork, a thread that is not there may have the mutex.
        self.refuse_child()
        with self.mutex:
            if self.torn:
                if is_within(sys._getframe(), self):
                    raise ClientMisuse(NESTED)
                if self.closed is None:
                    self.mend()
            self.torn = True
            try:
                value = method(self, *args, **kwargs)
            except PipelineError:
                # The client itself has raised it, so everything is in order.
                self.torn = False
                raise
            self.torn = False
            return value

    CALLS.add(cast("FunctionType", call).__code__)
    return call


class Steps(ABC):
    """An object whose steps any thread of one process may make."""

    def __init__(self) -> None:
        self.process = os.getpid()
        # Reentrant: a handler that calls in the middle of a step is refused, and does not wait for its own thread.
        self.mutex = threading.RLock()
        #: Whether a step is under way, or has not come to its end.
        self.torn = False
        #: Why no call is possible any more.
        self.closed: PipelineError | None = None
        #: Why no request is taken any more, though those before go on.
        self.refused: PipelineError | None = None
        #: The one that must wait for nothing that it has to bring about itself.
        self.thread: threading.Thread

    @abstractmethod
    def mend(self) -> None:
        """Put in order what a step has left that was interrupted, at any point of it."""

    def refuse_child(self) -> None:
        """
        Raises:
            ClientMisuse: this process is a child of the one that made it.
        """
        if os.getpid() != self.process:
            raise ClientMisuse(
                f"this client was made by process {self.process} and is used by its child {os.getpid()}; "
                f"a fork copies neither connection nor thread: connect in the child"
            )

    def refuse_waiting(self) -> None:
        """
        Raises:
            ClientMisuse: this is the I/O thread, which would wait for itself.
        """
        self.refuse_child()
        if threading.current_thread() is self.thread:
            raise ClientMisuse(
                "a done-callback waits for an answer of its own client, whose answers are taken in by the thread that "
                "runs the callbacks: use add_done_callback again, or wait in another thread"
            )

    def refuse_closed(self) -> None:
        """
        Raises:
            ClientMisuse: the client is closed.
            PipelineError: it takes no requests any more, for the reason that `refuse` was given.
        """
        error = self.refused or self.closed
        if error is not None:
            raise type(error)(*error.args)

    def refuse_closed_only(self) -> None:
        """As `refuse_closed`, but a client that refuses requests may be waited for."""
        if self.closed is not None:
            raise type(self.closed)(*self.closed.args)
