"""Client: what an application uses to send requests to a running pipeline of the same host or pod.

    with Client.connect("resnet") as client:
        result = client.submit(image=jpeg_bytes).get()
        print(result["labels"], result["scores"])

Tensors are written once, into a slot of shared memory that the pipeline has granted; what is sent is
the handle. A client asks for a slot when it needs one, and gives back what it does not need: an idle client keeps
nothing that others wait for (`pipeline.scheduler.ingress` has the rules).

A client belongs to the thread and the process that made it, and every call says so if it is used by
another. The scheduler sees its death by a lock that the kernel drops; a client object that is dropped is closed.

Whatever a signal's handler raises in the middle of a call, nothing is lost: the next call notices that one
did not come to its end (`_torn`), and has the session put in order what it left.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import get_ident
from types import FrameType, FunctionType
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from pipeline.client.access import Access
from pipeline.client.answering import result_of
from pipeline.client.calls import CALLS, NESTED, is_within
from pipeline.client.draft import Draft, HeldDraft
from pipeline.client.exchange import Exchange
from pipeline.client.future import Future
from pipeline.client.inputs import Layout, arrays_of, fill_in, given_of, limit_of, misfit_of, parts_of, stored_shapes
from pipeline.client.limits import STATUS_S
from pipeline.client.program import program
from pipeline.client.result import COPIED_BYTES, Result
from pipeline.client.session import Session
from pipeline.client.slots import Grant
from pipeline.errors import ClientMisuse, InvalidRequest, NotInTime, PipelineError, Unavailable
from pipeline.wire.address import Address
from pipeline.wire.camera import CameraCounts
from pipeline.wire.interface import Interface
from pipeline.wire.labels import short_name
from pipeline.wire.links import Inbox, link_of, listen
from pipeline.wire.messages import Answer, CameraReport, Submit
from pipeline.wire.records import NO_ORIGIN, Origin
from pipeline.wire.status import plain
from shm.errors import ShmError

__all__ = ["Client"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

#: How long `connect` waits for a pipeline that is starting, if the caller gives no time.
_START_S = 60.0


def _call(method: Callable[Concatenate[Client, P], T]) -> Callable[Concatenate[Client, P], T]:
    """A public call: the client's thread and process alone may make it, and the next call knows whether it came to its
    end."""

    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # What nearly every call finds is looked at here: a function of its own would cost as much as all of it.
        connection = self._exchange.access.connection
        if self._torn or self._closed or connection is None or connection.forked or get_ident() != self._thread:
            self._enter(sys._getframe())
        self._torn = True
        try:
            value = method(self, *args, **kwargs)
        except PipelineError:
            # The client itself has raised it, so everything is in order.
            self._torn = False
            raise
        except ShmError as error:
            raise Unavailable(f"{error}; the pipeline's memory has changed under this client: send again") from error
        self._torn = False
        return value

    CALLS.add(cast("FunctionType", call).__code__)
    return call


class Client:
    """A connection to one running pipeline. Use `connect`."""

    _exchange_type: ClassVar[type[Exchange]] = Exchange
    #: Outputs of up to this many bytes are copied out of their slots.
    _copied_bytes: ClassVar[int] = COPIED_BYTES
    #: Waiting for a slot so long, in nanoseconds, with nothing under way, means that the client itself holds them.
    _own_fault_ns: ClassVar[int] = 5_000_000_000
    #: Whether it goes with its pipeline to the run of a new version (`pipeline reload`).
    _follows: ClassVar[bool] = True

    def __init__(self, run: str | Path | None, name: str) -> None:
        self._name = name or program()
        self._thread = get_ident()
        self._process = os.getpid()
        self._closed = False
        #: Whether a call is under way, or has not come to its end.
        self._torn = False
        self._session = Session(self._name, self._own_fault_ns)
        self._exchange = self._exchange_type(Access(run, self._listen, follows=self._follows), self._session)

    @staticmethod
    def _listen(run_dir: Path, address: Address) -> Inbox:
        return listen(run_dir, address, signalled=True, link=link_of(run_dir))

    @property
    def interface(self) -> Interface:
        """What runs on the other side: its name, inputs, outputs and stages."""
        return self._session.interface

    # -- coming and going -----------------------------------------------------------------------

    @classmethod
    def connect(
        cls, run: str | Path | None = None, *, name: str = "", timeout_s: float | None = None
    ) -> Client:
        """Connect to a running pipeline, and wait until it is ready.

        Of several runs of a name, the newest that is ready is taken.

        Args:
            run: the pipeline's name, a run's id or the path of its folder, or None for the only one running.
            name: what `pipeline status` calls this client; empty: as it was started, such as `app.py`.
            timeout_s: seconds to wait until it runs and is ready. None: 60 for one that is starting, none for one that
                is not there.

        Raises:
            Unavailable: it is not running, or not ready in time.
        """
        client = cls(run, name)
        try:
            limit = _START_S if timeout_s is None else limit_of(timeout_s)
            client._exchange.open(time.monotonic() + limit, timeout_s is not None)
        except BaseException:
            client.close()
            raise
        return client

    @_call
    def reconnect(self, timeout_s: float = 60.0) -> None:
        """Wait until the pipeline is there again; at once if the connection was not lost.

        A client that was connected by name goes on with the pipeline of that name which runs by then, and every client
        with the version that has replaced its own.

        Raises:
            Unavailable: it has stopped for good, or is not ready within `timeout_s` seconds.
        """
        self._exchange.notice()
        self._exchange.move()
        if self._session.lost is not None:
            self._exchange.open(time.monotonic() + limit_of(timeout_s), True)

    def close(self) -> None:
        """Leave. What this client has under way is dropped, and what it holds comes back to the pipeline.

        Arrays of results stay as they are: their slots come back when the last of them is gone.

        Raises:
            ClientMisuse: by another thread than the client's.
        """
        if self._closed:
            return
        if os.getpid() == self._process and get_ident() != self._thread:
            raise self._misuse()
        self._refuse_within(sys._getframe())
        self._shut()

    def _shut(self) -> None:
        # Not a parent's, by its child.
        if os.getpid() == self._process:
            self._exchange.leave(time.monotonic_ns())
        # Last: if this is interrupted, it is begun again by the next `close`, or when the client is dropped.
        self._closed = True

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # In whatever thread drops it: no other one can be using it.
        if not self._closed:
            self._shut()

    def __reduce__(self) -> Any:
        raise ClientMisuse("a client cannot be sent to another process; connect there")

    def __repr__(self) -> str:
        connection, lost = self._exchange.access.connection, self._session.lost
        where = "" if connection is None else f" in {connection.run_dir}"
        state = "closed" if self._closed else "connected" if lost is None else f"not connected: {lost}"
        return f"<Client {self._name!r}{where}: {state}, {self.outstanding} requests under way>"

    # -- order ----------------------------------------------------------------------------------

    def _misuse(self) -> ClientMisuse:
        if os.getpid() != self._process:
            return ClientMisuse(
                f"this client was made by process {self._process} and is used by its child {os.getpid()}; "
                f"a fork copies no connection: connect in the child"
            )
        return ClientMisuse(
            f"this client was made by another thread than the one that uses it, {threading.current_thread().name!r}; "
            f"a client belongs to one thread: let each thread connect for itself"
        )

    def _refuse_within(self, frame: FrameType) -> None:
        """Refuse a call in the middle of another one, by a signal's handler: that one's steps would be taken twice.

        Args:
            frame: of the call.
        """
        if self._torn and is_within(frame, self):
            raise ClientMisuse(NESTED)

    def _enter(self, frame: FrameType) -> None:
        """Refuse a caller that may not call, and put in order what a call has left that did not come to its end."""
        connection = self._exchange.access.connection
        if get_ident() != self._thread or (connection is not None and connection.forked):
            raise self._misuse()
        if self._closed:
            raise ClientMisuse("this client is closed; connect again")
        if self._torn:
            self._refuse_within(frame)
            self._exchange.mend()

    def may_be_called(self) -> bool:
        """Whether a call would be let in: by this thread, and not in the middle of another one."""
        return not (self._closed or self._torn) and os.getpid() == self._process and (
            get_ident() == self._thread
        )

    # -- slots ----------------------------------------------------------------------------------

    @_call
    def draft(
        self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, *, timeout_s: float | None = None, **shapes: Any
    ) -> Draft:
        """A slot to write a request's inputs into, by the shape of each.

        Waits for a free slot, at most `timeout_s` seconds.

        Args:
            inputs: shapes by input name, beside those by keyword; see `submit`.
            shapes: the shape of each input, a tuple of ints, of a batch as in `submit`; of a "json" input the bytes of
                its text, and of a "bytes" input with one extent more, the bytes of all elements and their lengths (see
                `shm.elements`).

        Raises:
            InvalidRequest: a shape does not fit the pipeline's inputs.
            NotInTime: no slot became free in time (a TimeoutError).
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
            ClientMisuse: the client is closed, or another thread's or process's.
        """
        return self._connected(timeout_s, self._draft, inputs, shapes, timeout_s, HeldDraft)

    @_call
    def draft_nowait(self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, **shapes: Any) -> Draft | None:
        """As `draft`, but None if no slot is free now. The scheduler is asked, so it takes a message and its answer.

        Nothing is kept for a later call: if others wait for slots, `draft` gets its turn and this call does not.
        """
        try:
            return self._connected(0.0, self._draft_nowait, inputs, shapes)
        except NotInTime:
            # Its run was replaced, and it goes to the new one when its requests are answered.
            return None

    def _draft_nowait(
        self, inputs: Mapping[str, tuple[int, ...]] | None, shapes: dict[str, Any]
    ) -> Draft | None:
        layout = self._session.layouts.of(given_of(self._session.specs, inputs, shapes))
        grant = self._exchange.slot_now(layout)
        return None if grant is None else self._make_draft(grant, layout, HeldDraft)

    def _connected(self, timeout_s: float | None, call: Callable[Q, T], *args: Q.args, **kwargs: Q.kwargs) -> T:
        """What `call` returns, which needs a connection and sends nothing before it returns or raises."""
        limit = None if timeout_s is None else limit_of(timeout_s)
        while True:
            self._exchange.be_connected(limit)
            try:
                return call(*args, **kwargs)
            except Unavailable:
                # If the run has been replaced and has ended in the middle of it, that is no failure.
                if not self._exchange.replaced:
                    raise

    def _draft(
        self, inputs: Mapping[str, tuple[int, ...]] | None, shapes: dict[str, Any],
        timeout_s: float | None, kind: type[Draft],
    ) -> Draft:  # fmt: skip
        layout = self._session.layouts.of(given_of(self._session.specs, inputs, shapes))
        limit = None if timeout_s is None else limit_of(timeout_s)
        return self._make_draft(self._exchange.slot(layout, limit), layout, kind)

    def _make_draft(self, grant: Grant, layout: Layout, kind: type[Draft]) -> Draft:
        handles, views = parts_of(self._session.table, self._session.specs, grant.slot, layout)
        grant.draft = draft = kind(self, grant.slot, handles, views, layout.rows)
        return draft

    @_call
    def discard_draft(self, draft: Draft) -> None:
        """Called by `Draft.discard`."""
        if draft.open:
            self._give_up(draft)

    def _give_up(self, draft: Draft) -> None:
        draft.close()
        # Otherwise it went with a scheduler that has died.
        if self._session.slots.holds(draft.slot):
            self._session.give_back([draft.slot])
            self._exchange.send()

    # -- requests -------------------------------------------------------------------------------

    @_call
    def submit(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        timeout_s: float | None = None,
        flush: bool = True,
        name: Any = None,
        **more: Any,
    ) -> Future:
        """Send one request: arrays or bytes by input name, a JSON value for a "json" input, an array or nested lists
        of `bytes` or texts for a "bytes" input. If all arrays have one axis more than their inputs, in front, they are
        the rows of a batch, as many as one request may carry (`interface.rows`), and so are the arrays of its answer.

        Args:
            inputs: the inputs by name, whatever they are called; also as `inputs=`, unless an input is called that.
            more: the inputs by keyword, or those that `inputs` does not have.
            deadline_ms: milliseconds from now after which the answer is not wanted any more.
            priority: 0 is the highest, 9 the lowest.
            timeout_s: seconds to wait for a free slot.
            flush: False keeps it back until `flush`, `pump` or the next submit that flushes, so that
                many requests share one message.
            name: what logs and stages call the request (`batch.requests`), at most 200 characters. If an input is
                called `name`, and `inputs` does not have it, this is that input.

        Raises:
            InvalidRequest: an input is missing, unknown, given twice, or does not fit its spec.
            NotInTime: no slot became free in time (a TimeoutError).
            Overloaded: none will: this client itself keeps too many results, and waits for nothing else.
            Unavailable: the pipeline has stopped or died.
            ClientMisuse: the client is closed, or another thread's or process's.
        """
        return self._connected(timeout_s, self._submit, inputs, more, deadline_ms, priority, timeout_s, flush, name)

    def _submit(
        self,
        inputs: Mapping[str, Any] | None,
        more: dict[str, Any],
        deadline_ms: float | None,
        priority: int,
        timeout_s: float | None,
        flush: bool,
        name: Any,
    ) -> Future:
        specs = self._session.specs
        given = given_of(specs, inputs, more)
        if name is not None and "name" in specs and "name" not in given:
            given, name = {**given, "name": name}, None
        arrays = arrays_of(specs, given)
        draft = self._draft(stored_shapes(arrays), {}, timeout_s, Draft)
        fill_in(draft.inputs, arrays)
        return self._submit_draft(draft, deadline_ms, priority, flush, name)

    @_call
    def submit_draft(
        self, draft: Draft, deadline_ms: float | None, priority: int, flush: bool, name: object, origin: Origin
    ) -> Future:
        """Called by `Draft.submit`."""
        return self._submit_draft(draft, deadline_ms, priority, flush, name, origin)

    def _submit_draft(
        self, draft: Draft, deadline_ms: float | None, priority: int, flush: bool, name: object,
        origin: Origin = NO_ORIGIN,
    ) -> Future:  # fmt: skip
        if not draft.open:
            raise InvalidRequest("this draft was submitted or discarded before; make another one")
        session = self._session
        if session.lost is not None:
            raise session.lost
        if not session.slots.holds(draft.slot):
            raise Unavailable("this draft's slot went with the scheduler that has died; make another draft")
        if (why := misfit_of(deadline_ms, priority, name)) is not None:
            self._give_up(draft)
            raise InvalidRequest(why)
        now = time.monotonic_ns()
        deadline = 0 if deadline_ms is None else now + int(deadline_ms * 1e6)

        future = Future(session.tag(), self, session.there, session.table, session.interface, now)
        session.submit(future, draft, deadline, int(priority), short_name(name or ""), origin)
        if flush:
            self._exchange.flush()
        return future

    @_call
    def flush(self) -> None:
        """Send what was kept back: submissions, and slots that are not needed any more."""
        self._exchange.flush()

    @_call
    def end_stream(self, stream: int) -> None:
        """No more requests of this stream will come (see `Draft.submit`); the scheduler forgets it."""
        if self._session.lost is None:
            place = self._session.there
            self._exchange.tell(Submit(place.number, place.seen, (), (), (stream,)))

    @_call
    def report_camera(self, counts: CameraCounts) -> None:
        """Tell the scheduler how the camera is whose frames this client sends, for status and metrics."""
        if self._session.lost is None:
            self._exchange.tell(CameraReport(self._session.there.number, counts))

    # -- answers --------------------------------------------------------------------------------

    @_call
    def pump(self, timeout_s: float = 0.0) -> int:
        """Take in what has come, waiting up to `timeout_s` seconds for something; how many answers came since the last
        call.

        Raises:
            Unavailable: the pipeline has died; every request under way has failed with the same.
            ClientMisuse: the client is closed, or another thread's or process's.
        """
        session, limit = self._session, limit_of(timeout_s)
        # Those that came while a slot was waited for are told of at once, and not waited for once more.
        self._exchange.pump(0.0 if session.came else limit)
        came, session.came = session.came, 0
        return came

    @_call
    def wait_for(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Called by `Future.wait`: take in answers until `done`, at most `timeout_s` seconds; whether it is."""
        end = None if timeout_s is None else time.monotonic() + limit_of(timeout_s)
        while not done():
            left = 3600.0 if end is None else end - time.monotonic()
            if left <= 0:
                return False
            self._exchange.pump(left)
        return True

    @_call
    def cancel(self, future: Future) -> None:
        """Called by `Future.cancel`."""
        self._exchange.cancel(future.tag)

    def make_result(self, future: Future, part: Answer | None = None) -> Result:
        """Called by `Future.get`, and by `Future.results` for a part."""
        connection = self._exchange.access.connection
        forked = os.getpid() != self._process if connection is None else connection.forked
        if forked or get_ident() != self._thread:
            raise self._misuse()
        try:
            self._session.unread.take(future)
            return result_of(future, self._copied_bytes, part)
        except ShmError as error:
            raise Unavailable(f"{error}; the pipeline's memory has changed under this client: send again") from error

    @property
    def outstanding(self) -> int:
        """Requests that have no answer yet."""
        return len(self._session.futures)

    @property
    def copied(self) -> dict[str, int]:
        """Bytes that this client has copied within this process, beside those into slots, by reason
        (`pipeline.client.copies`)."""
        return self._session.copies.by_reason()

    @_call
    def status(self, timeout_s: float = STATUS_S) -> dict[str, Any]:
        """How the pipeline is: the scheduler's view, as plain values.

        Raises:
            NotInTime: it does not answer (a TimeoutError).
            Unavailable: the pipeline has died.
            ClientMisuse: the client is closed, or another thread's or process's.
        """
        self._exchange.look()
        self._exchange.move()
        document: dict[str, Any] = plain(self._exchange.status(limit_of(timeout_s)))
        return document
