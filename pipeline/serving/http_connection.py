"""A connection of HTTP: uvicorn's, with limits for each caller by itself, and errors in the form of all others.

uvicorn alone would answer what is no HTTP, and what is beyond the number of connections, in plain text; the latter to
every caller, also those that were there before. It would wait without end for headers, and for a caller that reads
nothing. When these limits are reached is decided by `patience`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import KserveError
from pipeline.kserve.statuses import error_body, status_of
from pipeline.serving.patience import Patience, Phase, TimeLimits, to_close

__all__ = ["HttpConnection", "two_lengths"]

#: Seconds from the first byte of a request to the end of its headers.
_HEAD_S = 10.0
#: Seconds for the rest of a body that is not read.
_REST_S = 5.0
#: Seconds without a request after which a connection may have to make room for another one.
_ROOM_S = 1.0
_JSON = b"application/json"


class _Reader(h11.Connection):
    """Keeps what was wrong, and refuses what two servers could read as different requests."""

    problem: h11.RemoteProtocolError | None = None
    #: Of the request that was begun last.
    method = b""

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.method = event.method
                if two_lengths([name for name, _ in event.headers]):
                    raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        except h11.RemoteProtocolError as error:
            self.problem = error
            raise
        return event


def two_lengths(names: Iterable[bytes]) -> bool:
    """Whether headers of these names, in lower case, say twice where the body ends.

    A proxy that goes by the other one takes the end of the body for the next request, of any caller
    (https://www.rfc-editor.org/rfc/rfc9112#section-6.1).
    """
    return {b"content-length", b"transfer-encoding"} <= set(names)


class HttpConnection(H11Protocol):
    """The protocol for uvicorn.

    Args:
        most: connections at one time.
        idle_s: see `TimeLimits`.
        told: is told the code of each error that no application answers.
        options: uvicorn's.
    """

    def __init__(self, most: int, idle_s: float, told: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self._told = told
        self.conn = self._reader = _Reader(h11.SERVER, self.config.h11_max_incomplete_event_size or 0)
        self._most = most
        # All of them shorter where `idle_s` is: one key of the config says how patient the gateway is.
        self._limits = TimeLimits(
            waiting_s=self.config.timeout_keep_alive,
            head_s=min(_HEAD_S, idle_s),
            rest_s=min(_REST_S, idle_s),
            idle_s=idle_s,
        )
        self.patience = Patience(self._limits, time.monotonic())
        self._look: asyncio.TimerHandle | None = None
        #: Whether what comes is not read any more.
        self._deaf = False

    # -- asyncio's ------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        now = time.monotonic()
        self.patience = Patience(self._limits, now)
        if len(self.connections) > self._most:
            others: list[Any] = [each for each in self.connections if each is not self]
            found = to_close([each.patience.idle_since() for each in others], now, _ROOM_S)
            if found is not None:
                others[found].transport.abort()
            elif len(others) < 2 * self._most:
                self.app = _unavailable
                self._told("UNAVAILABLE")
            else:
                transport.abort()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            self.patience.received(time.monotonic())
            super().data_received(data)

    # -- uvicorn's ------------------------------------------------------------------------------

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        # Answered already: another one in the same bytes is seen when that is over.
        if self.cycle is not before and not self.cycle.response_complete:
            self.patience.enter(Phase.UNDER_WAY, time.monotonic())

    def on_response_complete(self) -> None:
        if self.app is _unavailable and len(self.connections) <= self._most:
            self.app = self.config.loaded_app
        rest = self.conn.their_state is h11.SEND_BODY
        self.patience.enter(Phase.REST if rest else Phase.WAITING, time.monotonic())
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        found = self._reader.problem
        code = "UNIMPLEMENTED" if found is not None and found.error_status_hint == 501 else "INVALID_ARGUMENT"
        self._refuse(KserveError(f"expected a request of HTTP/1.1: {str(found or msg)[:500]}", code))

    def _refuse(self, error: KserveError) -> None:
        """Answer what no application has seen, or what it waits for in vain, and close."""
        self._told(error.code)
        if self.cycle is not None:
            # Its task learns that the caller is gone, and sends nothing more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        state: Any = self.conn.our_state
        if state in (h11.IDLE, h11.SEND_RESPONSE):
            status, body = status_of(error).http, error_body(error)
            headers = [
                (b"content-type", _JSON),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            parts: list[bytes | None] = [self.conn.send(h11.Response(status_code=status, headers=headers, reason=b""))]
            # An answer to HEAD has no body. Of what is no request, the method is that of the one before.
            if state is h11.IDLE or self._reader.method != b"HEAD":
                parts.append(self.conn.send(h11.Data(data=body)))
            parts.append(self.conn.send(h11.EndOfMessage()))
            self.transport.write(b"".join([part for part in parts if part]))
        self._deaf = True
        self.patience.enter(Phase.REST, time.monotonic())
        if self.transport.can_write_eof():
            # To close while bytes still come would take the answer from a caller that has not read it yet.
            self.transport.write_eof()
        else:
            self.transport.close()

    # -- time -----------------------------------------------------------------------------------

    def _look_later(self) -> None:
        limits = self._limits
        pause = min(limits.head_s, limits.rest_s, limits.idle_s, limits.waiting_s) / 4
        self._look = self.loop.call_later(pause, self._look_now)

    def _look_now(self) -> None:
        phase = self.patience.phase
        unsent = self.transport.get_write_buffer_size()
        why = self.patience.why_over(time.monotonic(), unsent)
        if not why:
            self._look_later()
        elif phase is Phase.HEAD and not unsent:
            self._refuse(
                KserveError(f"expected the end of the headers within {self._limits.head_s:g} s", "DEADLINE_EXCEEDED")
            )
            self._look_later()
        else:
            # At once: `close` would wait until what was written has left.
            self.transport.abort()


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    error = KserveError("this server has as many connections as it takes: try again later", "UNAVAILABLE")
    await Response(error_body(error), status_of(error).http, media_type=_JSON.decode())(scope, receive, send)
