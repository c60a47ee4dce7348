"""The link over gRPC: one channel, with all requests side by side; raw bytes, which the codec reads without a copy.

grpcio has threads of its own, in which answers come; it connects again by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc

from pipeline.client.copies import Copies
from pipeline.errors import InvalidRequest, KserveError
from pipeline.kserve import grpc_request, grpc_response
from pipeline.kserve.messages import INFERENCE, document, methods
from pipeline.kserve.statuses import ERROR_HEADER, error_of_grpc
from pipeline.kserve.values import InferRequest, InferResponse, Limits
from pipeline.remote.address import Address
from pipeline.remote.failures import LOST, REFUSED, TOLD, Failure
from pipeline.remote.guard import Guard
from pipeline.remote.link import Done, Link, Options, Part, Payload, Sent
from pipeline.remote.regions import PREFIX, Arena
from pipeline.remote.shared_payload import SharedPayload, shared

__all__ = ["GrpcLink"]

_METHODS = methods(INFERENCE)
_QUESTIONS = {
    "live": "ServerLive", "ready": "ServerReady", "metadata": "ServerMetadata", "model_ready": "ModelReady",
    "model_metadata": "ModelMetadata", "model_config": "ModelConfig", "index": "RepositoryIndex",
    "region_register": "SystemSharedMemoryRegister", "region_unregister": "SystemSharedMemoryUnregister",
}  # fmt: skip
#: How the details of a call begin that never left this host.
_NOT_SENT = ("failed to connect", "DNS resolution failed", "no address", "empty address list")
_SHARED = "system_shared_memory"
#: What the errors of all servers have that do not know a region.
_REGION = "shared memory region"
_FINAL = "triton_final_response"


class GrpcLink(Link):
    """See the module."""

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._options = options
        self._limits = Limits(body=options.max_response, json=options.max_response)
        self._metadata = (("authorization", f"Bearer {options.token}"),) if options.token else ()
        settings = [
            ("grpc.max_receive_message_length", options.max_response),
            ("grpc.max_send_message_length", -1),
            # So that a server that has come back is found again in a moment.
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 250),
            # How long one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", 5000),
            # The session does that.
            ("grpc.enable_retries", 0),
            # Channels of one target would share a connection, and its fate.
            ("grpc.use_local_subchannel_pool", 1),
            # Not through a proxy that is meant for the web.
            ("grpc.enable_http_proxy", 0 if address.is_here else 1),
        ]  # fmt: skip
        if address.has_tls:
            self._channel = grpc.secure_channel(address.target, _credentials(options), settings)
        else:
            self._channel = grpc.insecure_channel(address.target, settings)
        # Made once: each would be looked up for every call.
        self._infer = self._channel.unary_unary(_METHODS["ModelInfer"].path)
        self._closed = False
        server = {**asdict(options), "url": str(address)}
        self._arena = Arena(self.ask, lambda: Guard(server), options.shared_memory or PREFIX)
        if not options.shared_memory:
            self._arena.why = "this program does not want any (shared_memory=None)"
        elif not address.is_here:
            self._arena.why = f"{address.host} is not this host"

    def learn(self, metadata: Mapping[str, Any]) -> None:
        """See `Link.learn`."""
        if _SHARED not in (metadata.get("extensions") or ()) and not self._arena.why:
            self._arena.why = "the server does not say that it takes shared memory of clients"

    def encode(self, request: InferRequest, room: Mapping[str, int], copies: Copies) -> Payload:
        found = shared(self._arena, request, room, copies) if not self._arena.why else None
        return found or Payload(request, b"".join(grpc_request.encode(request)))

    def send(self, payload: Payload, limit_s: float | None, done: Done) -> Sent:
        call = self._infer.future(payload.frame, timeout=limit_s, metadata=self._beside(payload))
        call.add_done_callback(lambda ended: self._ended(ended, payload, limit_s, done))
        sent: Sent = call
        return sent

    def _beside(self, payload: Payload) -> tuple[tuple[str, str], ...]:
        """The metadata of a request."""
        return (*self._metadata, ("traceparent", payload.traceparent)) if payload.traceparent else self._metadata

    def _ended(self, call: Any, payload: Payload, limit_s: float | None, done: Done) -> None:
        outcome = self._outcome(call, payload)
        if isinstance(outcome, Failure) and isinstance(payload, SharedPayload):
            if outcome.kind != TOLD:
                self._arena.forget()
            elif _REGION in outcome.message.lower():
                # It was started again, and does not know the region: the same request, without one.
                self._arena.forget()
                again = self._infer.future(payload.inline(), timeout=limit_s, metadata=self._beside(payload))
                again.add_done_callback(lambda ended: done(self._outcome(ended, payload)))
                return
        done(outcome)

    def _outcome(self, call: Any, payload: Payload) -> InferResponse | Failure:
        code = call.code()
        if code is not grpc.StatusCode.OK:
            return _failure(call, self._address)
        try:
            response = grpc_response.decode(call.result(), self._limits)
            return payload.read(response) if isinstance(payload, SharedPayload) else response
        except KserveError as error:
            return _unreadable(error)

    def stream(self, payload: Payload, limit_s: float | None, part: Part, done: Done) -> Sent:
        call = self._channel.stream_stream(_METHODS["ModelStreamInfer"].path)(
            iter((payload.frame,)), timeout=limit_s, metadata=self._beside(payload)
        )
        # A thread for each stream: its parts are waited for one by one.
        threading.Thread(target=self._read, args=(call, part, done), name="remote stream", daemon=True).start()
        sent: Sent = call
        return sent

    def _read(self, call: Any, part: Part, done: Done) -> None:
        outcome: Failure | None = None
        try:
            for frame in call:
                response, error = grpc_response.decode_stream(frame, self._limits)
                if error:
                    outcome = Failure(
                        TOLD, error, "INTERNAL", str(response.parameters.get(ERROR_HEADER, "") or "StageFailed")
                    )
                    break
                if response.outputs:
                    part(response)
                if response.parameters.get(_FINAL):
                    break
        except grpc.RpcError:
            outcome = _failure(call, self._address)
        except KserveError as error:
            outcome = _unreadable(error)
        call.cancel()
        done(outcome)

    def ask(self, question: str, limit_s: float, **fields: Any) -> Mapping[str, Any]:
        row = _METHODS[_QUESTIONS[question]]
        try:
            # Raw, so that what is no such message is an error of ours.
            frame = self._channel.unary_unary(row.path)(
                row.request(**fields).SerializeToString(), timeout=limit_s, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise KserveError(_told(error), error_of_grpc(error.code().value[0], "").code) from None
        except ValueError as error:
            raise KserveError(f"the connection was closed: {error}", "UNAVAILABLE") from None
        try:
            found = document(row.response.FromString(frame))
        except Exception as error:
            # protobuf's errors have no base of their own.
            raise KserveError(
                f"{self._address} answers {row.name} with what is no such message: {error}", "INTERNAL"
            ) from None
        return found.get("config", found) if question == "model_config" else found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._arena.close()
            self._channel.close()

    def why(self) -> str:
        if not self._arena.why:
            return "gRPC, with large tensors in shared memory"
        return f"gRPC; no shared memory: {self._arena.why}"


def _told(call: Any) -> str:
    return str(call.details() or f"gRPC status {call.code().name} without a message")


def _failure(call: Any, address: Address) -> Failure:
    number, details = call.code().value[0], call.details() or ""
    error = error_of_grpc(number, details)
    ours = ""
    with suppress(Exception):
        ours = dict(call.trailing_metadata() or ()).get(ERROR_HEADER, "")
    if ours:
        return Failure.told(error, ours)
    if error.code == "UNAVAILABLE":
        if details.startswith(_NOT_SENT):
            return Failure(REFUSED, f"no connection to {address}: {error}")
        return Failure(_lost_or_told(details), f"{address}: {error}")
    if error.code == "CANCELLED":
        # Not by this program, which has dropped it then. gRPC servers do that to calls beyond their limit.
        return Failure(TOLD, f"the server broke the call off ({error}); perhaps it has as many as it takes")
    if error.code == "RESOURCE_EXHAUSTED" and "message larger than max" in details:
        # To send it again would not help. It is the answer that is too large, or the request, which the server refuses.
        return _unreadable(error) if _ANSWER in details else Failure(TOLD, str(error), "TOO_LARGE")
    return Failure.told(error)


#: In the details of what this side did not take.
_ANSWER = "CLIENT:"
#: How the details begin of a call whose connection was lost; grpcio has no other sign of it.
_BROKEN = (
    "Socket closed", "Connection reset", "recvmsg", "Broken pipe", "Stream removed", "GOAWAY", "Transport closed",
)  # fmt: skip


def _lost_or_told(details: str) -> str:
    return LOST if not details or any(word in details for word in _BROKEN) else TOLD


def _unreadable(error: KserveError) -> Failure:
    return Failure(TOLD, f"the server's answer cannot be read: {error}", "INTERNAL")


def _credentials(options: Options) -> Any:
    try:
        ca, key, certificate = (
            Path(path).read_bytes() if path else None for path in (options.ca, options.key, options.certificate)
        )
    except OSError as error:
        raise InvalidRequest(f"{error.filename}: expected a PEM file: {error.strerror}") from None
    return grpc.ssl_channel_credentials(ca, key, certificate)
