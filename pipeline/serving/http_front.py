"""The front over HTTP: REST with the binary tensor extension, as an ASGI application.

Each request is checked (`settings.check_browser`, `check_token`), read up to the limit, and answered by `calls` or
`inference`. What goes wrong is a body with `error`, from which tritonclient reads it. If the caller hangs up while its
request runs, that is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from pipeline.errors import KserveError
from pipeline.kserve.encodings import accepted, compressed, decompressed
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.http_request import decode, decode_raw
from pipeline.kserve.http_response import encode
from pipeline.kserve.model import datatype_of, dims_of
from pipeline.kserve.settings import region_list
from pipeline.kserve.statuses import ERROR_HEADER, error_body, status_of
from pipeline.kserve.values import InferRequest
from pipeline.metrics.host import host_usage
from pipeline.metrics.processes import processes_of
from pipeline.metrics.rendering import CONTENT_TYPE, render, render_host, render_processes, render_traffic
from pipeline.metrics.traffic import DECOMPRESSED, JOINED_IN, JOINED_OUT
from pipeline.serving.calls import Calls
from pipeline.serving.cameras.answers import CameraAnswers
from pipeline.serving.cameras.tickets import check_ticket
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.endpoints import ENDPOINTS, Endpoint
from pipeline.serving.front import CANCELLED, OK, Front
from pipeline.serving.http_connection import HttpConnection
from pipeline.serving.inference import Inference, trace_of
from pipeline.serving.journal import Journal
from pipeline.serving.page.answers import PageAnswers
from pipeline.serving.patience import most_s
from pipeline.serving.settings import Settings, check_browser, check_token

__all__ = ["HttpFront"]

_JSON = "application/json"
_BINARY = "application/octet-stream"
#: Bytes from which on they are read and compressed in another thread, so that the other requests go on meanwhile.
_ASIDE = 1 << 18
#: Bytes of a document that is no inference request.
_DOCUMENT = 1 << 20

Answer = Callable[[Request], Awaitable[Response]]


class HttpFront(Front):
    """The front.

    `app` is the application of the HTTP port, `metrics_app` that of the metrics port; `protocol` makes the
    connections of both, for uvicorn.
    """

    NAME = "http"

    def __init__(
        self, settings: Settings, catalogue: Catalogue, calls: Calls, inference: Inference, journal: Journal
    ) -> None:
        super().__init__(settings, catalogue, calls, inference, journal)
        self.protocol: Any = partial(
            HttpConnection, settings.connections, settings.idle_s, partial(self._traffic.answered, self.NAME)
        )
        answers: dict[str, Answer] = {
            "server_live": self._live, "server_ready": self._ready, "server_metadata": self._server_metadata,
            "all_statistics": self._statistics, "model_ready": self._model_ready,
            "model_metadata": self._model_metadata, "model_config": self._model_config,
            "statistics": self._statistics, "infer": self._infer, "index": self._index, "load": self._load,
            "unload": self._unload, "region_status": self._region_status, "region_register": self._region_register,
            "region_unregister": self._region_unregister, "cuda_status": self._cuda_status,
            "cuda_register": self._cuda_register, "cuda_unregister": self._cuda_unregister, "trace": self._trace,
            "log": self._log, "metrics": self._metrics, **PageAnswers(settings, catalogue).by_name,
            **CameraAnswers(settings, catalogue, self._body).by_name,
        }  # fmt: skip
        routes: dict[str, list[Route]] = {"http": [], "metrics": []}
        for row in ENDPOINTS:
            for path in row.paths:
                route = Route(path, self._answering(row, answers[row.name]), methods=list(row.http))
                routes[row.port].append(route)
        handlers: Any = {HTTPException: self._no_route, Exception: self._fault}
        self.app = Starlette(routes=routes["http"], exception_handlers=handlers)
        self.app.router.redirect_slashes = False
        self.metrics_app = Starlette(routes=routes["metrics"], exception_handlers=handlers)

    def _answering(self, endpoint: Endpoint, answer: Answer) -> Answer:
        """The whole handling of a request for this endpoint."""
        settings = self._settings

        async def handle(request: Request) -> Response:
            begun, outcome = time.perf_counter_ns(), OK
            try:
                headers = request.headers
                check_browser(headers.get("host", ""), headers.get("origin", ""), settings.hosts)
                ticket = request.query_params.get("ticket", "") if endpoint.ticketed else ""
                if endpoint.token and settings.token and ticket:
                    check_ticket(settings.token, _path_of(request), ticket, time.time())
                elif endpoint.token:
                    check_token(settings.token, headers.get("authorization", ""))
                self._check_open(endpoint, _path_of(request))
                response = await answer(request)
            except KserveError as error:
                response, outcome = _error(error), error.code
            except ClientDisconnect:
                # It is not read.
                response, outcome = Response(status_code=499), CANCELLED
            except Exception as error:
                failed = self._failed(_path_of(request), error)
                response, outcome = _error(failed), failed.code
            trace = trace_of(request.headers.get("traceparent", "")) if endpoint.name == "infer" else ""
            if trace:
                response.headers["traceparent"] = trace
            self._over(endpoint, outcome, begun)
            self._journal.request(f"{request.method} {_path_of(request)}", response.status_code, begun)
            return response

        return handle

    async def _no_route(self, request: Request, error: HTTPException) -> Response:
        """No such path, or another method."""
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID_ARGUMENT")
        found = KserveError(f"{request.method[:100]} {_path_of(request)}: {error.detail}", code)
        self._traffic.answered(self.NAME, code)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Of all endpoints with this path: the router names those of one.
            matching = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
            headers["Allow"] = ", ".join(sorted({method for route in matching for method in route.methods or ()}))
        return Response(error_body(found), status_of(found).http, media_type=_JSON, headers=headers)

    async def _fault(self, request: Request, error: Exception) -> Response:
        """A fault of ours outside of an endpoint."""
        return _error(self._failed(_path_of(request), error))

    # -- inference ------------------------------------------------------------------------------

    async def _infer(self, request: Request) -> Response:
        headers, model, version = request.headers, *_model_of(request)
        # First: a caller that names no model need send no body.
        served = await self._catalogue.found(model, version)
        body = await self._body(request, self._limits.body)
        encoding = headers.get("content-encoding", "")
        plain = await _aside(len(body), decompressed, body, encoding, self._limits.body) if encoding else body
        if plain is not body:
            self._traffic.copy(DECOMPRESSED, len(plain))
        length = headers.get(HEADER)
        if length is not None and length.strip() == "0":
            decoded = self._raw(served.name, version, plain)
        else:
            decoded = await _aside(len(plain), decode, model, version, plain, length, self._limits)
        traceparent = headers.get("traceparent", "")
        response = await _unless_gone(request, self._inference.infer(decoded, traceparent=traceparent))
        # `response` lives on here: its arrays may not be given back by another thread.
        out = await _aside(response.nbytes, encode, response, decoded)
        # The one copy on the way out. After it the pipeline has its slots back, however slowly the client reads.
        coding = accepted(headers.get("accept-encoding", ""))
        content = await _aside(out.nbytes, compressed, out.parts, coding) if coding else b"".join(out.parts)
        self._traffic.copy(JOINED_OUT, out.nbytes)
        extra = {"content-encoding": coding} if coding else {}
        if out.json_length is not None:
            extra[HEADER] = str(out.json_length)
        return Response(content, media_type=_JSON if out.json_length is None else _BINARY, headers=extra)

    def _raw(self, name: str, version: str, body: bytes | memoryview) -> InferRequest:
        """The request whose body is the only input's bytes."""
        model = self._catalogue.find(name, version).model
        if len(model.interface.inputs) != 1:
            raise KserveError(
                f"a raw request is for a model of one input, and {name!r} has {len(model.interface.inputs)}: say in "
                f"{HEADER} how long the JSON is"
            )
        (tensor,) = model.interface.inputs
        shape = ((1,) if model.max_batch_size else ()) + dims_of(tensor)
        return decode_raw(name, version, body, tensor.name, datatype_of(tensor).name, shape, self._limits)

    async def _body(self, request: Request, most: int) -> bytes:
        """The body, up to `most` bytes.

        Raises:
            KserveError: it is longer (TOO_LARGE), or the sender is too slow (DEADLINE_EXCEEDED).
        """
        said = request.headers.get("content-length", "")
        if said.isascii() and said.isdigit() and len(said) < 20 and int(said) > most:
            raise KserveError(f"expected a body of at most {most} bytes, found {said}", "TOO_LARGE")
        idle_s, begun = self._settings.idle_s, time.monotonic()
        chunks: list[bytes] = []
        nbytes = 0
        while True:
            left_s = min(idle_s, begun + most_s(idle_s, nbytes) - time.monotonic())
            try:
                message = await asyncio.wait_for(request.receive(), left_s)
            except asyncio.TimeoutError:
                raise KserveError(
                    f"expected more of the body within {idle_s:g} s, or it faster; found {nbytes} bytes",
                    "DEADLINE_EXCEEDED",
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            nbytes += len(chunk)
            if nbytes > most:
                raise KserveError(f"expected a body of at most {most} bytes, found more", "TOO_LARGE")
            chunks.append(chunk)
            if not message.get("more_body", False):
                self._traffic.copy(JOINED_IN, nbytes if len(chunks) > 1 else 0)
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    # -- the server -----------------------------------------------------------------------------

    async def _live(self, request: Request) -> Response:
        return Response()

    async def _ready(self, request: Request) -> Response:
        if await self._calls.server_ready():
            return Response()
        raise KserveError("not every model is ready")

    async def _server_metadata(self, request: Request) -> Response:
        return _json(self._calls.server_metadata())

    async def _metrics(self, request: Request) -> Response:
        found = [await served.status() for served in self._catalogue.served]
        told = [status for status in found if not isinstance(status, str)]
        traffic = await self._calls.traffic()
        # In a thread: the kernel's list of processes may be long.
        usages = await asyncio.to_thread(lambda: {status.pipeline: processes_of(status) for status in told})
        host = await asyncio.to_thread(host_usage)
        text = render(*told) + render_processes(usages) + render_host(host) + render_traffic(traffic)
        return Response(text, media_type=CONTENT_TYPE)

    # -- models ---------------------------------------------------------------------------------

    async def _model_ready(self, request: Request) -> Response:
        if why := await self._calls.why_not_ready(*_model_of(request)):
            raise KserveError(why)
        return Response()

    async def _model_metadata(self, request: Request) -> Response:
        return _json(await self._calls.model_metadata(*_model_of(request)))

    async def _model_config(self, request: Request) -> Response:
        return _json(await self._calls.model_config(*_model_of(request)))

    async def _statistics(self, request: Request) -> Response:
        return _json(await self._calls.statistics(*_model_of(request)))

    # -- the repository -------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        ready = (await self._document(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise KserveError(f"'ready': expected true or false, found {str(ready)[:100]!r}")
        return _json(await self._calls.index(ready))

    async def _load(self, request: Request) -> Response:
        parameters = _parameters_of(await self._document(request))
        await self._calls.load(request.path_params["model"], parameters)
        return Response()

    async def _unload(self, request: Request) -> Response:
        _parameters_of(await self._document(request))
        await self._calls.unload(request.path_params["model"])
        return Response()

    # -- shared memory --------------------------------------------------------------------------

    async def _region_status(self, request: Request) -> Response:
        return _json(region_list(self._calls.region_status(request.path_params.get("region", ""))))

    async def _region_register(self, request: Request) -> Response:
        document = await self._document(request)
        key, offset, nbytes = document.get("key"), document.get("offset", 0), document.get("byte_size")
        if not isinstance(key, str):
            raise KserveError("'key': expected the name of an object of shm_open")
        for name, value in (("offset", offset), ("byte_size", nbytes)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
                raise KserveError(f"{name!r}: expected a whole number of at least 0, found {str(value)[:100]!r}")
        await self._calls.region_register(request.path_params["region"], key, offset, int(nbytes or 0))
        return Response()

    async def _region_unregister(self, request: Request) -> Response:
        await self._calls.region_unregister(request.path_params.get("region", ""))
        return Response()

    async def _cuda_status(self, request: Request) -> Response:
        return _json(region_list(self._calls.cuda_status(request.path_params.get("region", ""))))

    async def _cuda_register(self, request: Request) -> Response:
        self._calls.cuda_register()

    async def _cuda_unregister(self, request: Request) -> Response:
        return Response()

    # -- settings -------------------------------------------------------------------------------

    async def _trace(self, request: Request) -> Response:
        change = await self._document(request) if request.method == "POST" else {}
        return _json(await self._calls.trace(request.path_params.get("model", ""), change))

    async def _log(self, request: Request) -> Response:
        return _json(await self._calls.log(await self._document(request) if request.method == "POST" else {}))

    async def _document(self, request: Request) -> dict[str, Any]:
        """The JSON object of a body; empty if there is no body."""
        body = await self._body(request, _DOCUMENT)
        try:
            document = msgspec.json.decode(body) if body.strip() else {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise KserveError(f"expected a JSON object as the body: {error}") from None
        if not isinstance(document, dict):
            raise KserveError(f"expected a JSON object as the body, found {type(document).__name__}")
        return document


def _parameters_of(document: dict[str, Any]) -> dict[str, Any]:
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict):
        raise KserveError(f"'parameters': expected an object, found {type(parameters).__name__}")
    return parameters


def _path_of(request: Request) -> str:
    """As it was sent, which is printable. (`request.url` raises an error if Host is no name of a host.)"""
    raw: bytes = request.scope["raw_path"]
    return raw[:200].decode("latin-1")


def _model_of(request: Request) -> tuple[str, str]:
    return request.path_params.get("model", ""), request.path_params.get("version", "")


async def _aside(nbytes: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it, in another thread if it takes long."""
    return function(*arguments) if nbytes < _ASIDE else await asyncio.to_thread(function, *arguments)


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
    """The answer; if the caller hangs up before it is there, it is cancelled.

    Raises:
        ClientDisconnect: the caller has hung up.
    """
    running = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise ClientDisconnect
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(document: Any) -> Response:
    return Response(msgspec.json.encode(document), media_type=_JSON)


def _error(error: KserveError) -> Response:
    status = status_of(error).http
    headers = {ERROR_HEADER: error.failure} if error.failure else {}
    if status == 401:
        # What a 401 must say: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
        headers["www-authenticate"] = "Bearer"
    return Response(error_body(error), status, media_type=_JSON, headers=headers)
