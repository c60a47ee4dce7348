"""RemoteRunner: what a program calls to have a model of a server infer, from any number of threads.

It has the interface of `client.runner.InferRunner`; how a call differs is said where it does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.client.bindings import Bindings, fitting
from pipeline.client.inputs import checked_traceparent, given_of, misfit_of
from pipeline.errors import ClientMisuse, InvalidRequest, KserveError
from pipeline.kserve.values import InferRequest
from pipeline.remote.description import Description
from pipeline.remote.exchange import Exchange, Job
from pipeline.remote.future import RemoteFuture, in_parts
from pipeline.remote.link import Payload
from pipeline.remote.model import RemoteModel
from pipeline.remote.outgoing import check_options, pieces_of, rows_of_call, scheduling
from pipeline.remote.parts import RemoteParts
from pipeline.wire.labels import short_name
from shm.handle import JSON

__all__ = ["RemoteRunner"]


class RemoteRunner(Bindings):
    """Has one model of a server infer, for any number of threads.

    Args:
        model: of a server.
    """

    _client: RemoteModel

    def __init__(self, model: RemoteModel) -> None:
        self._client = model

    @property
    def exchange(self) -> Exchange:
        """What its requests go through."""
        return self._client.exchange

    def ready(self) -> None:
        """Wait until it is known what the model takes and gives: it is, once there is a runner.

        Raises:
            ClientMisuse: the manager was stopped, or is of another process.
        """
        self._client.refuse_misuse()

    def why(self) -> str:
        """Which transport its requests take, why not a faster one, and what the server does not say of the model."""
        return self._client.why()

    def infer(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        retries: int = 0,
        block: bool = True,
        name: Any = None,
        traceparent: str = "",
        **more: Any,
    ) -> RemoteFuture:
        """Send one request, or a batch of them. Returns at once; then the arrays may be changed.

        A batch goes as such if the server has a batch axis, in pieces of its `max_batch_size`; otherwise its rows go as
        requests side by side. Args, Returns and Raises: as `InferRunner.infer`. `retries` is how often the request is
        sent again if the server dies with it, or says that it is unavailable.
        """
        future, jobs = self.call(inputs, more, deadline_ms, priority, retries, name, traceparent)
        try:
            self._client.exchange.put(jobs, block=block)
        except BaseException:
            self._client.exchange.cancel(jobs)
            raise
        return future

    def call(
        self,
        inputs: Mapping[str, Any] | None,
        more: dict[str, Any],
        deadline_ms: float | None,
        priority: int,
        retries: int,
        name: Any,
        traceparent: str = "",
    ) -> tuple[RemoteFuture, list[Job]]:
        """The future of `infer`, and the requests of the wire that are sent for it. Args and Raises: as `infer`."""
        description = self._client.description
        check_options(deadline_ms, priority, retries)
        given = given_of(description.specs, inputs, more)
        if name is not None and "name" in description.specs and "name" not in given:
            given, name = {**given, "name": name}, None
        rows, is_batch = rows_of_call(description, given)
        if description.in_parts:
            raise in_parts(description.name)
        return self._made(description, rows, is_batch, given, deadline_ms, priority, retries, name, traceparent)

    def infer_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        retries: int = 0,
        block: bool = True,
        name: Any = None,
        traceparent: str = "",
    ) -> list[RemoteFuture]:
        """Send many requests; a future for the answer to each. Args and Raises: as `InferRunner.infer_many`."""
        made = self.made(requests, deadline_ms, priority, retries, name, traceparent)
        try:
            self._client.exchange.put([job for _, jobs in made for job in jobs], block=block)
        except BaseException:
            self._client.exchange.cancel([job for _, jobs in made for job in jobs])
            raise
        return [future for future, _ in made]

    def made(
        self,
        requests: Iterable[Mapping[str, Any]],
        deadline_ms: float | None,
        priority: int,
        retries: int,
        name: Any,
        traceparent: str = "",
    ) -> list[tuple[RemoteFuture, list[Job]]]:
        """The futures of `infer_many`, and the requests of the wire that are sent for each. Args, Raises: as there."""
        description = self._client.description
        check_options(deadline_ms, priority, retries)
        if isinstance(requests, Mapping):
            raise InvalidRequest("expected a list that has a mapping for each request, found a mapping; write [{...}]")
        rows = []
        for number, given in enumerate(requests):
            if not isinstance(given, Mapping):
                raise InvalidRequest(f"request {number}: expected a mapping of inputs, found {type(given).__name__}")
            rows.append(one_request(description, given, f"request {number}: "))
        if description.in_parts:
            raise in_parts(description.name)
        return [
            self._made(description, [row], False, None, deadline_ms, priority, retries, name, traceparent)
            for row in rows
        ]

    def stream(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        name: Any = None,
        traceparent: str = "",
        **more: Any,
    ) -> RemoteParts:
        """Send one request, and iterate over the parts of its answer, as `InferRunner.stream`.

        Raises:
            InvalidRequest: as `infer`; also if the server is reached over HTTP, and its answers come in parts.
        """
        description = self._client.description
        check_options(deadline_ms, priority, 0)
        row = one_request(description, given_of(description.specs, inputs, more))
        parted = description.in_parts
        ((request, _),) = self._pieces(description, [row], None, deadline_ms, priority, name, parted=parted)
        payload = self._payload(request, traceparent)
        return RemoteParts(self._client, description, payload, request.id, deadline_of(deadline_ms))

    def loan(self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, **shapes: Any) -> Any:
        """Raises ClientMisuse: a server elsewhere has no slots here."""
        self._client.refuse_misuse()
        raise ClientMisuse(
            "loan: the slots of a pipeline are on its own host, and this runner asks a server; use infer, which takes "
            "arrays"
        )

    # -- for stages -----------------------------------------------------------------------------

    def groups(self, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int], alone: bool) -> list[list[int]]:
        """Which of these rows go together as one request: those of equal shapes, if the model has a batch axis.

        Args:
            rows: as `batches.requests_of` makes them.
            numbers: of the rows that go.
            alone: each goes by itself.
        """
        most = 1 if alone else max(1, self._client.description.max_batch_size)
        by_shape: dict[tuple[Any, ...], list[int]] = {}
        kinds = self._client.description.specs
        for number in numbers:
            row = rows[number]
            key = tuple([None if kinds[name].dtype == JSON else row[name].shape for name in kinds])
            by_shape.setdefault(key, []).append(number)
        return [same[at : at + most] for same in by_shape.values() for at in range(0, len(same), most)]

    def infer_rows(
        self, rows: Sequence[Mapping[str, Any]], deadline: int, retries: int, traceparent: str = ""
    ) -> RemoteFuture:
        """Send a group of rows as one request.

        Args:
            deadline: monotonic nanoseconds; 0: none.

        Raises:
            InvalidRequest: they cannot travel so.
        """
        description = self._client.description
        if description.in_parts:
            raise InvalidRequest(f"the answers of model {description.name!r} come in parts, which no stage takes")
        left_ms = max(0.001, (deadline - time.monotonic_ns()) / 1e6) if deadline else None
        future, jobs = self._made(description, list(rows), True, None, left_ms, 0, retries, None, traceparent)
        self._client.exchange.put(jobs)
        return future

    # -- parts of them --------------------------------------------------------------------------

    def _made(
        self,
        description: Description,
        rows: Sequence[Mapping[str, Any]],
        is_batch: bool,
        given: Mapping[str, Any] | None,
        deadline_ms: float | None,
        priority: int,
        retries: int,
        name: Any,
        traceparent: str = "",
    ) -> tuple[RemoteFuture, list[Job]]:
        model = self._client
        pieces = self._pieces(description, rows, given if is_batch else None, deadline_ms, priority, name)
        future = RemoteFuture(
            model.server, model.exchange, description, pieces[0][0].id.partition("/")[0], [rows for _, rows in pieces],
            is_batch, model.server.copies,
        )  # fmt: skip
        payloads = [self._payload(request, traceparent) for request, _ in pieces]
        return future, future.jobs(payloads, deadline_of(deadline_ms), retries)

    def _pieces(
        self,
        description: Description,
        rows: Sequence[Mapping[str, Any]],
        given: Mapping[str, Any] | None,
        deadline_ms: float | None,
        priority: int,
        name: Any,
        *,
        parted: bool = False,
    ) -> list[tuple[InferRequest, int]]:
        if (why := misfit_of(deadline_ms, priority, name)) is not None:
            raise InvalidRequest(why)
        label = short_name(name or "").replace("/", "_")
        request_id = self._client.server.next_id() + (f" {label}" if label else "")
        parameters = scheduling(deadline_ms, priority, in_parts=parted)
        return pieces_of(description, rows, request_id, parameters, given)

    def _payload(self, request: InferRequest, traceparent: object) -> Payload:
        trace = checked_traceparent(traceparent)
        try:
            server = self._client.server
            made = server.link.encode(request, self._client.room(request), server.copies)
        except KserveError as error:
            raise InvalidRequest(f"model {request.model!r}: {error}") from None
        made.traceparent = trace
        return made


def one_request(description: Description, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The arrays of one request.

    Raises:
        InvalidRequest: they do not fit; or they are a batch, which only `infer` takes.
    """
    try:
        return fitting(description.specs, given)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}{error}") from None


def deadline_of(deadline_ms: float | None) -> int:
    """Monotonic nanoseconds; 0: none."""
    return 0 if deadline_ms is None else time.monotonic_ns() + int(deadline_ms * 1e6)
