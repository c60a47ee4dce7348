"""The front over gRPC: GRPCInferenceService and grpc.health.v1.Health, over grpc.aio.

The handlers are of raw bytes: requests for inference are read by `kserve.grpc_request`, which copies no tensor, and the
other calls by the messages of protobuf. A caller that cancels, or is gone, has its handler cancelled by grpc.aio, and
with it its requests in the pipeline.

Over a stream, requests run side by side, up to a bound; their responses come in the order of the requests, and those of
a decoupled model as soon as they are there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import grpc.aio

from pipeline.errors import KserveError
from pipeline.kserve.grpc_request import decode
from pipeline.kserve.grpc_response import encode, encode_stream
from pipeline.kserve.messages import HEALTH, INFERENCE, filled, methods, parsed
from pipeline.kserve.settings import log_change, log_message, region_message, trace_change, trace_message
from pipeline.kserve.statuses import ERROR_HEADER, status_of
from pipeline.kserve.values import InferRequest, InferResponse, Limits, Parameter
from pipeline.metrics.traffic import JOINED_OUT
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.endpoints import ENDPOINTS, Endpoint
from pipeline.serving.front import CANCELLED, OK, Front
from pipeline.serving.grpc_server import LastingServer
from pipeline.serving.inference import FINAL, Inference, trace_of
from pipeline.serving.journal import Journal
from pipeline.serving.settings import Settings, check_page, check_token

__all__ = ["GrpcFront"]

Answer = Callable[[Any], Awaitable[Any] | Any]

_CODES = {code.value[0]: code for code in grpc.StatusCode}
#: Characters of a message that goes as a header, which clients take up to 8 KiB of.
_LONGEST = 1000
#: Requests of one stream that run at one time.
_SIDE_BY_SIDE = 64
#: Milliseconds until a connection has begun as HTTP/2, and, if it has, for which it may be without a call.
_HANDSHAKE_MS, _IDLE_MS = 10_000, 300_000
#: Calls that may wait until grpcio's server takes them in. Of more than these its core cancels some, by chance, and
#: tells their callers CANCELLED; unless it is told this number, of more than 1000
#: (https://github.com/grpc/grpc/pull/34782: "grpc.server.max_pending_requests"). Those that it takes in beyond the
#: limit of calls get RESOURCE_EXHAUSTED.
_BACKLOG = 16_384
#: How often a watcher of the health looks.
_WATCH_S = 0.5
#: Bytes of a message beside the tensors.
_ROOM = 1 << 20
_SERVING, _NOT_SERVING, _UNKNOWN = "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"


class GrpcFront(Front):
    """The front. `server` makes a server of it."""

    NAME = "grpc"

    def __init__(
        self, settings: Settings, catalogue: Catalogue, calls: Calls, inference: Inference, journal: Journal
    ) -> None:
        super().__init__(settings, catalogue, calls, inference, journal)
        #: Of endpoints that are one message and its answer, both of protobuf.
        self._answers: dict[str, Answer] = {
            "server_live": lambda message: {"live": True}, "server_ready": self._server_ready,
            "server_metadata": lambda message: calls.server_metadata(), "model_ready": self._model_ready,
            "model_metadata": lambda message: calls.model_metadata(message.name, message.version),
            "model_config": self._model_config,
            "statistics": lambda message: calls.statistics(message.name, message.version), "index": self._index,
            "load": self._load, "unload": self._unload,
            "region_status": lambda message: region_message(calls.region_status(message.name)),
            "region_register": self._region_register, "region_unregister": self._region_unregister,
            "cuda_status": lambda message: region_message(calls.cuda_status(message.name)),
            "cuda_register": lambda message: calls.cuda_register(), "cuda_unregister": lambda message: {},
            "trace": self._trace, "log": self._log, "health": self._check,
        }  # fmt: skip

    def server(self) -> LastingServer:
        """A server with all of it, without a port yet."""
        return LastingServer(self._made, self._journal)

    def _made(self) -> grpc.aio.Server:
        options = [
            ("grpc.max_receive_message_length", min(self._settings.max_body + _ROOM, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            # With the other gateways; the keeper sees to it that no other program has the port.
            ("grpc.so_reuseport", 1),
            # Connections that never say what they want, whose other end is gone, or who read nothing, end.
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
            ("grpc.keepalive_time_ms", round(self._settings.idle_s * 1e3)),
            ("grpc.keepalive_timeout_ms", round(self._settings.idle_s * 1e3)),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            ("grpc.max_allowed_incoming_connections", self._settings.connections),
            ("grpc.server.max_pending_requests", _BACKLOG),
            ("grpc.server.max_pending_requests_hard_limit", _BACKLOG),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=self._settings.connections)
        known = {**methods(INFERENCE), **methods(HEALTH)}
        for service in (INFERENCE, HEALTH):
            handlers = {
                row.grpc: self._handler(row, known[row.grpc])
                for row in ENDPOINTS
                if row.grpc and known[row.grpc].path.startswith(f"/{service}/")
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        return server

    def _handler(self, endpoint: Endpoint, method: Any) -> Any:
        # Without serializers: frames are bytes on both sides.
        if endpoint.name == "infer":
            return grpc.unary_unary_rpc_method_handler(self._unary(endpoint, self._infer))
        if endpoint.name == "stream":
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if endpoint.name == "watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        request, response = method.request.DESCRIPTOR.full_name, method.response.DESCRIPTOR.full_name
        answer = self._answers[endpoint.name]

        async def call(frame: bytes, context: Any) -> bytes:
            found = answer(parsed(_short(request), frame))
            document: dict[str, Any] = await found if isinstance(found, Awaitable) else found
            written: bytes = filled(_short(response), document).SerializeToString()
            return written

        return grpc.unary_unary_rpc_method_handler(self._unary(endpoint, call))

    def _unary(self, endpoint: Endpoint, call: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
        """The whole handling of a call of one message."""

        async def handle(frame: bytes, context: Any) -> bytes:
            # What ends it otherwise is that the caller is gone.
            begun, outcome = time.perf_counter_ns(), CANCELLED
            try:
                self._check_caller(endpoint, context)
                answer = await call(frame, context)
                outcome = OK
                return answer
            except KserveError as error:
                outcome = error.code
                await _abort(context, error)
            except Exception as error:
                failed = self._failed(endpoint.grpc, error)
                outcome = failed.code
                await _abort(context, failed)
            finally:
                self._over(endpoint, outcome, begun)
                self._journal.request(endpoint.grpc, outcome, begun)

        return handle

    def _check_caller(self, endpoint: Endpoint, context: Any) -> None:
        metadata = _metadata(context)
        # Before anything else, so that errors have it as well.
        if trace := trace_of(metadata.get("traceparent", "")):
            context.set_trailing_metadata((("traceparent", trace),))
        check_page(metadata.get("origin", ""), self._settings.hosts)
        if endpoint.token:
            check_token(self._settings.token, metadata.get("authorization", ""))
        self._check_open(endpoint, endpoint.grpc)

    # -- inference ------------------------------------------------------------------------------

    async def _infer(self, frame: bytes, context: Any) -> bytes:
        request = decode(frame, self._limits)
        response = await self._inference.infer(
            request, left_s=context.time_remaining(), traceparent=_metadata(context).get("traceparent", "")
        )
        # The one copy on the way out, after which the pipeline has its slots back.
        return self._joined(encode(response))

    def _joined(self, parts: list[bytes | memoryview]) -> bytes:
        frame = b"".join(parts)
        self._traffic.copy(JOINED_OUT, len(frame))
        return frame

    async def _stream(self, frames: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await self._check_streaming("stream", context)
        async with aclosing(_Stream(self, self._limits, context).responses(frames)) as responses:
            async for response in responses:
                yield response

    # -- the other calls ------------------------------------------------------------------------

    async def _server_ready(self, message: Any) -> dict[str, Any]:
        return {"ready": await self._calls.server_ready()}

    async def _model_ready(self, message: Any) -> dict[str, Any]:
        return {"ready": not await self._calls.why_not_ready(message.name, message.version)}

    async def _model_config(self, message: Any) -> dict[str, Any]:
        return {"config": await self._calls.model_config(message.name, message.version)}

    async def _index(self, message: Any) -> dict[str, Any]:
        return {"models": await self._calls.index(message.ready)}

    async def _load(self, message: Any) -> dict[str, Any]:
        await self._calls.load(message.model_name, message.parameters)
        return {}

    async def _unload(self, message: Any) -> dict[str, Any]:
        await self._calls.unload(message.model_name)
        return {}

    async def _region_register(self, message: Any) -> dict[str, Any]:
        await self._calls.region_register(message.name, message.key, message.offset, message.byte_size)
        return {}

    async def _region_unregister(self, message: Any) -> dict[str, Any]:
        await self._calls.region_unregister(message.name)
        return {}

    async def _trace(self, message: Any) -> dict[str, Any]:
        return trace_message(await self._calls.trace(message.model_name, trace_change(message)))

    async def _log(self, message: Any) -> dict[str, Any]:
        return log_message(await self._calls.log(log_change(message)))

    # -- health ---------------------------------------------------------------------------------

    async def _health_of(self, service: str) -> str:
        """Of the server ("", or the name of the service), or of a model by its name."""
        if service in ("", INFERENCE):
            return _SERVING if await self._calls.server_ready() else _NOT_SERVING
        if service not in self._catalogue.names:
            return _UNKNOWN
        return _NOT_SERVING if await self._calls.why_not_ready(service, "") else _SERVING

    async def _check(self, message: Any) -> dict[str, Any]:
        health = await self._health_of(message.service)
        if health == _UNKNOWN:
            raise KserveError(f"unknown service {message.service[:200]!r}", "NOT_FOUND")
        return {"status": health}

    async def _check_streaming(self, name: str, context: Any) -> None:
        """As `_check_caller`, for a call of several messages, which is refused as a whole."""
        endpoint, begun = next(row for row in ENDPOINTS if row.name == name), time.perf_counter_ns()
        try:
            self._check_caller(endpoint, context)
        except KserveError as error:
            self._over(endpoint, error.code, begun)
            await _abort(context, error)

    async def _watch(self, frame: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._check_streaming("watch", context)
        try:
            service = parsed("grpc.health.v1.HealthCheckRequest", frame).service
        except KserveError as error:
            await _abort(context, error)
        told = ""
        while True:
            health = await self._health_of(service)
            if health != told:
                told = health
                yield filled("grpc.health.v1.HealthCheckResponse", {"status": health}).SerializeToString()
            await asyncio.sleep(_WATCH_S)


class _Stream:
    """One call of ModelStreamInfer."""

    def __init__(self, front: GrpcFront, limits: Limits, context: Any) -> None:
        self._front = front
        self._endpoint = next(row for row in ENDPOINTS if row.name == "stream")
        self._inference = front._inference
        self._limits = limits
        self._context = context
        metadata = _metadata(context)
        self._traceparent = metadata.get("traceparent", "")
        #: Whether an error ends the stream, as a status.
        self._strict = metadata.get("triton_grpc_error", "").lower() == "true"
        # Bounded: a client that does not read stops its own requests, and no memory fills up.
        self._ready: asyncio.Queue[bytes | KserveError | None] = asyncio.Queue(_SIDE_BY_SIDE)
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def responses(self, frames: AsyncIterator[bytes]) -> Any:
        """The frames of all responses. Closing it cancels what runs."""
        running: set[asyncio.Task[None]] = set()
        reading = asyncio.ensure_future(self._read(frames, running))
        try:
            while (found := await self._ready.get()) is not None:
                if isinstance(found, KserveError):
                    await _abort(self._context, found)
                yield found
        finally:
            reading.cancel()
            for task in tuple(running):
                task.cancel()
            await asyncio.gather(reading, *running, return_exceptions=True)

    async def _read(self, frames: AsyncIterator[bytes], running: set[asyncio.Task[None]]) -> None:
        """Begin every request that comes; at the end of them, wait for those that run."""
        before: asyncio.Task[None] | None = None
        async for frame in frames:
            await self._slots.acquire()
            before = asyncio.ensure_future(self._run(frame, before))
            running.add(before)
            before.add_done_callback(running.discard)
            before.add_done_callback(lambda _: self._slots.release())
        if running:
            await asyncio.wait(tuple(running))
        await self._ready.put(None)

    async def _run(self, frame: bytes, before: asyncio.Task[None] | None) -> None:
        """Answer one request.

        Args:
            before: the one before it, whose response goes first, unless this comes in parts.
        """
        begun = time.perf_counter_ns()
        request: InferRequest | None = None
        code = CANCELLED
        try:
            request = decode(frame, self._limits)
            left_s = self._context.time_remaining()
            parts = self._inference.stream(request, left_s=left_s, traceparent=self._traceparent)
            async with aclosing(parts):
                async for response, _ in parts:
                    written = self._front._joined(encode_stream(response))
                    if response.parameters[FINAL] and response.outputs:
                        await _over(before)
                    await self._ready.put(written)
            code = OK
        except KserveError as error:
            code = error.code
            await _over(before)
            await self._fail(request, error)
        except Exception as error:
            failed = self._front._failed(self._endpoint.grpc, error)
            code = failed.code
            await _over(before)
            await self._fail(request, failed)
        finally:
            self._front._over(self._endpoint, code, begun)
            self._front._journal.request(self._endpoint.grpc, code, begun)

    async def _fail(self, request: InferRequest | None, error: KserveError) -> None:
        if self._strict:
            await self._ready.put(error)
            return
        named = ("", "", "") if request is None else (request.model, request.version, request.id)
        parameters: dict[str, Parameter] = {FINAL: True, **({ERROR_HEADER: error.failure} if error.failure else {})}
        response = InferResponse(named[0], named[1], (), named[2], parameters)
        await self._ready.put(b"".join(encode_stream(response, str(error) or error.code)))


async def _over(task: asyncio.Task[None] | None) -> None:
    """Wait until this task is over, however it ends; it goes on if this is cancelled."""
    if task is not None:
        await asyncio.wait((task,))


async def _abort(context: Any, error: KserveError) -> NoReturn:
    """End the call with a status."""
    trailing = ((ERROR_HEADER, error.failure),) if error.failure else ()
    await context.abort(_CODES[status_of(error).grpc], str(error)[:_LONGEST], trailing)
    raise error  # for mypy: `abort` has raised


def _short(name: str) -> str:
    """As `messages.message` takes it."""
    return name.removeprefix("inference.")


def _metadata(context: Any) -> dict[str, str]:
    return {
        key.lower(): value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
