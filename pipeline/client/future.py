"""Pending: a request on its way, and what the client knows of its answer. Future: one that can be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Protocol

from pipeline.client.leases import Lease, Leases
from pipeline.client.result import Result
from pipeline.errors import ClientMisuse, NotInTime, RequestError, request_error
from pipeline.wire.interface import Interface
from pipeline.wire.labels import request_id
from pipeline.wire.messages import OK, Answer, SlotRef
from shm.view import SegmentTable

__all__ = ["Future", "Pending"]


class _Owner(Protocol):
    def wait_for(self, done: Callable[[], bool], timeout_s: float | None) -> bool: ...

    def make_result(self, future: Future, part: Answer | None = None) -> Result: ...

    def cancel(self, future: Future) -> None: ...


class Pending:
    """A request on its way: what is known of it, without a way to wait for more."""

    __slots__ = (
        "__weakref__", "_error", "answer", "answered_ns", "borrowed", "interface", "leases", "moved", "received",
        "rows", "submitted_ns", "table", "tag",
    )  # fmt: skip

    def __init__(self, tag: int, borrowed: Leases, table: SegmentTable, interface: Interface, now: int) -> None:
        self.tag = tag
        #: What the client has borrowed, this request's slots included.
        self.borrowed = borrowed
        #: The pipeline that it was sent to; the client may have connected to another one of that name since.
        self.interface = interface
        #: What its handles refer to, also after the client has connected to other segments, or is closed; None once the
        #: result has it.
        self.table: SegmentTable | None = table
        self._error: RequestError | None = None
        #: The answer as it came; None before.
        self.answer: Answer | None = None
        #: Those parts of it that have come, by their number, in the order in which they came.
        self.received: dict[int, Answer] = {}
        #: What the answer refers to, until the result has it.
        self.leases: dict[SlotRef, Lease] = {}
        #: Its results, if they were made before they were asked for (see `unread`): by the number of the part, None for
        #: an answer that came whole.
        self.moved: dict[int | None, Result] = {}
        #: Monotonic nanoseconds of the submission and of the answer (0: not yet).
        self.submitted_ns = now
        self.answered_ns = 0
        #: How many rows of a batch it carries; 0: it is no batch.
        self.rows = 0

    @property
    def request(self) -> str:
        """The id of the request, by which logs and errors call it, also while it is under way."""
        return request_id(self.borrowed.number, self.tag)

    def done(self) -> bool:
        """Whether the answer, or the failure, is here."""
        return self.answered_ns != 0

    def fail(self, error: RequestError, now: int) -> None:
        """End without an answer. Called by the client."""
        self._error = error
        if not self.received:
            # Those parts that have come may still be read.
            self.table = None
        self.answered_ns = now

    def error(self) -> RequestError | None:
        """Why it failed; None if it did not, or is not done."""
        # Another object each time: one that was raised refers to the frames that it passed, and those to this future,
        # whose slots would wait for the collector.
        if self._error is not None:
            return copy(self._error)
        answer = self.answer
        if answer is None or answer.code == OK or not self.done():
            return None
        return request_error(answer.code, answer.message, answer.traceback, self.request)

    def give_back(self) -> None:
        """Its results have what they need: the slots that no array is on come back."""
        if not self.leases:
            return
        borrowed = self.borrowed
        # Several slots share one message.
        borrowed.held = True
        try:
            self.leases = {}
        finally:
            borrowed.held = False
        borrowed.settle_idle()

    def _raise(self) -> None:
        """Raise why it failed, if it did."""
        error = self.error()
        if error is not None:
            try:
                raise error
            finally:
                # Otherwise it and this frame would refer to each other, and keep this future's slots.
                del error

    def __repr__(self) -> str:
        kind = type(self).__name__
        if not self.done():
            return f"<{kind} of request {self.request}: under way>"
        took = (self.answered_ns - self.submitted_ns) / 1e6
        error = self.error()
        what = "answered" if error is None else f"failed, {type(error).__name__}: {error}"
        return f"<{kind} of request {self.request}: {what}, after {took:.1f} ms>"


class Future(Pending):
    """A request on its way. Made by `Client.submit`; belongs to the client's thread.

    A `get` or `wait` that is interrupted, for example by Ctrl-C, loses nothing: call it again.
    """

    __slots__ = ("_owner", "_result")

    def __init__(
        self, tag: int, owner: _Owner, borrowed: Leases, table: SegmentTable, interface: Interface, now: int
    ) -> None:
        super().__init__(tag, borrowed, table, interface, now)
        self._owner = owner
        self._result: Result | None = None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done, at most `timeout_s` seconds; whether it is.

        Raises:
            ClientMisuse: by another thread or process than the client's.
        """
        return self.done() or self._owner.wait_for(self.done, timeout_s)

    def results(self, timeout_s: float | None = None) -> Iterator[Result]:
        """The parts of an answer that comes in parts, each as soon as it is there; `timeout_s` is for each of them.

        An answer that comes whole is the only result, unless all of its outputs were skipped: then there is none.
        `Result.part` is the number of a part. With `answer_each_child` it is the child's, and parts come in any order.

        Raises:
            NotInTime: the next one is not there within `timeout_s` seconds (a TimeoutError); it goes on.
            RequestError: the answer was broken off (see `pipeline.errors`).
            ClientMisuse: by another thread or process than the client's.
        """
        number = 0
        while True:
            if number < len(self.received):
                for part in list(self.received.values())[number:]:
                    number += 1
                    yield self._owner.make_result(self, part)
            elif self.done():
                break
            elif not self._owner.wait_for(_more(self, number), timeout_s):
                raise NotInTime(f"no part of request {self.request} has come for {timeout_s} s; it goes on")
        self._raise()
        # Only MISSING: an answer in parts that had none, or all outputs were skipped.
        if not self.received and self.answer and any(not isinstance(output, int) for output in self.answer.outputs):
            yield self.get()

    def cancel(self) -> None:
        """The answer is not wanted any more. If it is not on its way yet, the request fails with `Cancelled`.

        Raises:
            ClientMisuse: by another thread or process than the client's.
        """
        if not self.done():
            self._owner.cancel(self)

    def get(self, timeout_s: float | None = None) -> Result:
        """The result, the same one each time.

        Raises:
            NotInTime: it is not done within `timeout_s` seconds (a TimeoutError); it goes on.
            RequestError: the request has no answer (see `pipeline.errors`).
            ClientMisuse: by another thread or process than the client's; or the answer has come in several parts.
        """
        if not self.answered_ns and not self.wait(timeout_s):
            raise NotInTime(f"request {self.request} is not answered after {timeout_s} s; it goes on: call get again")
        if self._error is not None or self.answer is None or self.answer.code != OK:
            self._raise()
        if self.received:
            raise ClientMisuse(
                f"the answer to request {self.request} has come in {len(self.received)} parts, which are no single "
                f"result: for part in future.results()"
            )
        # In this order: whatever is raised in between, the leases are held by the result or by this.
        if self._result is None:
            self._result = self._owner.make_result(self)
        self.give_back()
        self.table = None
        self.moved = {}
        return self._result


def _more(future: Future, number: int) -> Callable[[], bool]:
    """Whether a part with that number is there, or the end."""
    return lambda: len(future.received) > number or future.done()
