"""The link over HTTP/1.1: a few threads, each with a connection of its own that is kept; binary tensors, or JSON.

    binary    JSON of names and shapes, and behind it the tensors' bytes (the extension `binary_tensor_data`)
    JSON      numbers as text, for servers that have nothing else; FP16 and BF16 cannot travel so

A server that does not say that it has the extension is asked with it once; if it refuses that and takes the same
request as JSON, it is asked in JSON from then on.
"""

from __future__ import annotations

import http.client
import queue
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from pipeline.client.copies import Copies
from pipeline.errors import KserveError
from pipeline.kserve import http_request, http_response
from pipeline.kserve.encodings import decompressed
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.statuses import ERROR_HEADER, error_of_http
from pipeline.kserve.values import InferRequest, InferResponse, Limits
from pipeline.remote.address import Address
from pipeline.remote.checked import context_of
from pipeline.remote.failures import LOST, REFUSED, TOLD, Failure
from pipeline.remote.link import Done, Link, Options, Part, Payload, Sent

__all__ = ["HttpLink"]

_BINARY = "binary_tensor_data"
_CHUNK = 1 << 20
#: Seconds until a connection must be there, if the request has no sooner deadline.
_CONNECT_S = 5.0
_ASKED_TYPE = "application/json"
#: Characters of what is no HTTP that an error shows.
_SHOWN = 16
#: By what a server refuses a body whose form it does not know.
_REFUSES_FORM = ("INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE", "UNIMPLEMENTED", "INTERNAL")


class _Exchanged(NamedTuple):
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NotSent(Exception):
    """No connection could be made."""


class HttpLink(Link):
    """See the module."""

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._options = options
        self._limits = Limits(body=options.max_response, json=options.max_response)
        self._tls = context_of(options) if address.has_tls else None
        self._headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        #: Whether tensors travel as bytes; None: that is not known yet.
        self._binary = options.binary
        self._why = "" if options.binary is None else f"this program wants it so (binary={options.binary})"
        self._waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._mutex = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._running: set[_Task] = set()
        self._closed = False

    def learn(self, metadata: Mapping[str, Any]) -> None:
        """See `Link.learn`."""
        if self._binary is None and _BINARY in (metadata.get("extensions") or ()):
            self._binary = True

    # -- requests -------------------------------------------------------------------------------

    def encode(self, request: InferRequest, room: Mapping[str, int], copies: Copies) -> Payload:
        del room, copies
        body = http_request.encode(request, binary=self._binary is not False)
        return Payload(request, b"".join(body.parts), body.json_length)

    def send(self, payload: Payload, limit_s: float | None, done: Done) -> Sent:
        task = _Task(self, payload, limit_s, done)
        with self._mutex:
            if self._closed:
                raise ValueError("closed")
            self._running.add(task)
            more = self._idle == 0 and self._threads < self._options.connections
            if more:
                self._threads += 1
            else:
                self._idle -= self._idle > 0
        if more:
            threading.Thread(target=self._work, args=(task,), name="remote http", daemon=True).start()
        else:
            self._waiting.put(task)
        return task

    def _work(self, task: _Task | None) -> None:
        """The body of a thread: one task after the other, over one connection."""
        line = _Line(self._address, self._tls, self._headers, self._options.max_response)
        while task is not None:
            # In a function of its own: its arrays are not to live until the next one comes.
            self._finish(task, line)
            task = self._next()
        line.close()

    def _next(self) -> _Task | None:
        """The next task for an idle thread; None: the end."""
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            with self._mutex:
                self._idle += 1
            return self._waiting.get()

    def _finish(self, task: _Task, line: _Line) -> None:
        outcome = self._run(task, line)
        with self._mutex:
            self._running.discard(task)
        task.done(outcome)

    def _run(self, task: _Task, line: _Line) -> InferResponse | Failure:
        payload = task.payload
        found = self._tried(task, line, payload)
        if not isinstance(found, Failure) or self._binary is not None or found.kind != TOLD:
            if not isinstance(found, Failure) and self._binary is None:
                self._binary = payload.head is not None or self._binary
            return found
        if payload.head is None or found.code not in _REFUSES_FORM or found.error:
            return found
        # What did not understand the body may close the connection, without a word of that.
        line.close()
        try:
            again = self._tried(task, line, _as_json(payload))
        except KserveError:
            return found
        if isinstance(again, Failure):
            # It was the request that it refused, and not its form.
            return again if again.kind == TOLD else found
        self._binary = False
        self._why = f"it refuses binary tensors: {found.message[:200]}"
        return again

    def _tried(self, task: _Task, line: _Line, payload: Payload) -> InferResponse | Failure:
        if payload.head is not None and self._binary is False:
            try:
                payload = _as_json(payload)
            except KserveError as error:
                return Failure.told(error)
        headers = {"Content-Type": _ASKED_TYPE if payload.head is None else "application/octet-stream"}
        if payload.head is not None:
            headers[HEADER] = str(payload.head)
        if payload.traceparent:
            headers["traceparent"] = payload.traceparent
        try:
            found = task.exchange(line, "POST", _path(payload.model, payload.version, "infer"), payload.frame, headers)
        except _NotSent as error:
            return Failure(REFUSED, str(error))
        except TimeoutError:
            return Failure(TOLD, "not answered within its deadline", "DEADLINE_EXCEEDED")
        except KserveError as error:
            return Failure(TOLD, str(error), error.code)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # AttributeError: http.client's, of a connection that another thread has closed.
            return Failure(LOST, f"{self._address}: the connection broke: {_said(error)}")
        try:
            return self._response(found)
        except KserveError as error:
            return Failure(TOLD, f"the server's answer cannot be read: {error}", "INTERNAL")

    def _response(self, found: _Exchanged) -> InferResponse | Failure:
        body = decompressed(found.body, found.headers.get("content-encoding", ""), self._limits.body)
        if found.status != 200:
            return Failure.told(error_of_http(found.status, body), found.headers.get(ERROR_HEADER, ""))
        return http_response.decode(body, found.headers.get(HEADER.lower()), self._limits)

    def stream(self, payload: Payload, limit_s: float | None, part: Part, done: Done) -> Sent:
        done(Failure(TOLD, f"answers in parts need gRPC, and {self._address} is HTTP: use grpc://", "UNIMPLEMENTED"))
        return _Nothing()

    # -- questions ------------------------------------------------------------------------------

    def ask(self, question: str, limit_s: float, **fields: Any) -> Mapping[str, Any]:
        model, version = fields.get("name", ""), fields.get("version", "")
        match question:
            case "live" | "ready":
                self._get(f"/v2/health/{question}", limit_s)
                return {question: True}
            case "metadata":
                return self._document("GET", "/v2", limit_s)
            case "model_ready":
                self._get(_path(model, version, "ready"), limit_s)
                return {"ready": True}
            case "model_metadata":
                return self._document("GET", _path(model, version, ""), limit_s)
            case "model_config":
                return self._document("GET", _path(model, version, "config"), limit_s)
            case "index":
                return self._index(limit_s)
        raise KserveError(f"{question} is not asked over HTTP", "UNIMPLEMENTED")

    def _index(self, limit_s: float) -> Mapping[str, Any]:
        try:
            return self._document("POST", "/v2/repository/index", limit_s, b"{}")
        except KserveError as error:
            if error.code not in ("NOT_FOUND", "METHOD_NOT_ALLOWED"):
                raise
        # KServe's own servers have this in place of it.
        return self._document("GET", "/v2/models", limit_s)

    def _get(self, path: str, limit_s: float, method: str = "GET", body: bytes = b"") -> bytes:
        """The body of a response.

        Raises:
            KserveError: another status than 200, or none.
        """
        # A connection of its own: the others may all be busy.
        line = _Line(self._address, self._tls, self._headers, self._options.max_response)
        # Socket timeouts are for each step, so a server that drips is bounded by this.
        timer = threading.Timer(limit_s, line.break_off)
        timer.daemon = True
        timer.start()
        try:
            found = line.exchange(method, path, body, {"Content-Type": _ASKED_TYPE} if body else {}, limit_s)
        except (_NotSent, OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            raise KserveError(_said(error), "UNAVAILABLE") from None
        finally:
            timer.cancel()
            line.close()
        if found.status != 200:
            raise error_of_http(found.status, found.body)
        return found.body

    def _document(self, method: str, path: str, limit_s: float, body: bytes = b"") -> Mapping[str, Any]:
        text = self._get(path, limit_s, method, body)
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise KserveError(f"{self._address}{path} answers what is no JSON: {error}", "INTERNAL") from None
        if isinstance(found, list):
            return {"models": found}
        if not isinstance(found, dict):
            raise KserveError(f"{self._address}{path} answers no JSON object", "INTERNAL")
        return found

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            running, threads = list(self._running), self._threads
        for task in running:
            task.cancel()
        for _ in range(threads):
            self._waiting.put(None)

    def why(self) -> str:
        kind = {True: "HTTP, binary", False: "HTTP, JSON", None: "HTTP, binary until the server refuses that"}
        reasons = [self._why] if self._why else []
        return "; ".join([kind[self._binary], *reasons, "gRPC is faster, and the URL says HTTP: grpc://HOST:PORT"])


class _Nothing:
    """What was not sent."""

    def cancel(self) -> None:
        """Nothing to break off."""


class _Task:
    """A request under way, or waiting for a thread."""

    def __init__(self, link: HttpLink, payload: Payload, limit_s: float | None, done: Done) -> None:
        self.payload = payload
        self.done = done
        self._limit_s = limit_s
        self._mutex = threading.Lock()
        self._line: _Line | None = None
        self._cancelled = False

    def exchange(
        self, line: _Line, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> _Exchanged:
        """Over this connection, unless it was cancelled before."""
        with self._mutex:
            if self._cancelled:
                raise KserveError("cancelled", "CANCELLED")
            self._line = line
        try:
            return line.exchange(method, path, body, headers, self._limit_s)
        finally:
            self._leave(line)

    def _leave(self, line: _Line) -> None:
        with self._mutex:
            self._line = None
            if self._cancelled:
                # It was broken off, perhaps just now.
                line.close()

    def cancel(self) -> None:
        """See `link.Sent.cancel`."""
        with self._mutex:
            self._cancelled = True
            if self._line is not None:
                self._line.break_off()


class _Line:
    """One connection, made when it is needed, and again when it has ended."""

    def __init__(
        self, address: Address, tls: ssl.SSLContext | None, headers: Mapping[str, str], max_response: int
    ) -> None:
        self._address = address
        self._tls = tls
        self._headers = headers
        self._max_response = max_response
        self._http: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], limit_s: float | None
    ) -> _Exchanged:
        """One request and its response.

        Raises:
            _NotSent: there is no connection.
            OSError, http.client.HTTPException, ...: it broke.
            KserveError: the response is too large.
        """
        self._connect(limit_s)
        connection = self._http
        assert connection is not None
        try:
            connection.request(method, self._address.path + path, body or None, {**self._headers, **headers})
            response = connection.getresponse()
            found = _Exchanged(
                response.status, {key.lower(): value for key, value in response.getheaders()}, self._read(response)
            )
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return found

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        said = response.length
        if said is not None and said > self._max_response:
            raise self._too_large(str(said))
        chunks: list[bytes] = []
        nbytes = 0
        while chunk := response.read(_CHUNK if said is None else min(_CHUNK, said - nbytes) or 1):
            nbytes += len(chunk)
            if nbytes > self._max_response:
                raise self._too_large("more")
            chunks.append(chunk)
        if (missing := (said or 0) - nbytes) > 0:
            raise http.client.IncompleteRead(b"", missing)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self, found: str) -> KserveError:
        # Not TOO_LARGE: with that a server refuses a request, and this one is not at fault.
        return KserveError(
            f"the server's answer cannot be read: expected at most {self._max_response} bytes, found {found}",
            "INTERNAL",
        )

    def _connect(self, limit_s: float | None) -> None:
        if self._http is not None and self._socket is not None:
            # Readable without a request: the server has closed it, or it says what was not asked.
            if not _is_readable(self._socket):
                self._socket.settimeout(limit_s)
                return
            self.close()
        address = self._address
        connect_s = _CONNECT_S if limit_s is None else min(limit_s, _CONNECT_S)
        made: http.client.HTTPConnection
        if self._tls is not None:
            made = http.client.HTTPSConnection(address.host, address.port, timeout=connect_s, context=self._tls)
        else:
            made = http.client.HTTPConnection(address.host, address.port, timeout=connect_s)
        try:
            made.connect()
        except (OSError, ValueError) as error:
            made.close()
            raise _NotSent(f"no connection to {address}: {_said(error)}") from None
        self._http, self._socket = made, made.sock
        self._socket.settimeout(limit_s)

    def break_off(self) -> None:
        """From another thread: what waits at this connection gets an error."""
        if (open_ := self._socket) is not None:
            with suppress(OSError):
                open_.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; the next exchange makes another one."""
        made, self._http, self._socket = self._http, None, None
        if made is not None:
            made.close()


def _is_readable(open_: socket.socket) -> bool:
    poll = select.poll()  # select.select takes no descriptor from 1024 on
    poll.register(open_, select.POLLIN)
    return bool(poll.poll(0))


def _path(model: str, version: str, call: str) -> str:
    parts = ["/v2/models", quote(model, safe="")]
    if version:
        parts += ["versions", quote(version, safe="")]
    return "/".join([*parts, call] if call else parts)


def _as_json(payload: Payload) -> Payload:
    """The same request, its tensors as JSON.

    Raises:
        KserveError: one cannot be JSON, such as FP16.
    """
    whole = Limits(body=1 << 62, json=1 << 62)
    request = http_request.decode(payload.model, payload.version, payload.frame, str(payload.head), whole)
    body = http_request.encode(replace(request, binary_output=False), binary=False)
    made = Payload(request, b"".join(body.parts), None)
    made.traceparent = payload.traceparent
    return made


def _said(error: BaseException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the response ended {error.expected or 'some'} bytes too early"
    # RemoteDisconnected is one too, and has said nothing.
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        said = ascii(str(error)[:_SHOWN])
        return f"expected an answer of HTTP/1.1, found {said}; a port of gRPC is asked by a URL grpc://HOST:PORT"
    text = str(error)
    return text or type(error).__name__
