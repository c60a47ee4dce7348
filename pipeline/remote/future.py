"""RemoteFuture: the answer to a request of a server, or to a batch of them. See `client.result_future`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline.client.batches import of_rows
from pipeline.client.copies import STACKED, Copies
from pipeline.client.result import Result
from pipeline.client.result_future import ResultFuture
from pipeline.errors import ClientMisuse, KserveError, RequestError
from pipeline.kserve.values import InferResponse
from pipeline.remote.description import Description
from pipeline.remote.exchange import Exchange, Job
from pipeline.remote.failures import Failure, error_of
from pipeline.remote.incoming import Columns, column_values, joined_batch, one_row, row_of
from pipeline.remote.link import Payload

__all__ = ["RemoteFuture", "in_parts", "result_of"]


class RemoteFuture(ResultFuture):
    """The answer to a request, or to a batch of them. Made by `RemoteRunner`.

    Args:
        server: kept alive until this is done.
        exchange: to the server.
        description: of the model.
        request_id: by which the server's logs call the request.
        rows: of each piece that is sent.
        is_batch: the answer is that of a batch.
    """

    def __init__(
        self,
        server: object,
        exchange: Exchange,
        description: Description,
        request_id: str,
        rows: Sequence[int],
        is_batch: bool,
        copies: Copies,
    ) -> None:
        super().__init__(server)
        self._exchange = exchange
        self._description = description
        self._id = request_id
        self._rows = rows
        self._is_batch = is_batch
        self._copies = copies
        self._left = len(rows)
        self._columns: list[Columns | None] = [None] * len(rows)
        self._jobs: list[Job] = []

    def jobs(self, payloads: Sequence[Payload], deadline: int, retries: int) -> list[Job]:
        """The requests of the wire that it is the answer of, not sent yet."""
        self._jobs = [
            Job(payload, deadline, retries, partial(self._piece_over, number))
            for number, payload in enumerate(payloads)
        ]
        return self._jobs

    @property
    def request(self) -> str:
        """The id of the request, by which errors and the server's logs call it."""
        return self._id

    def _piece_over(self, number: int, response: InferResponse | None, error: RequestError | None) -> None:
        """Called by a thread that takes in answers: one of its pieces is over."""
        if response is not None:
            try:
                self._columns[number] = column_values(self._description, response, self._rows[number])
            except KserveError as found:
                error = error_of(Failure.told(found))
        self._left -= 1
        if error is None:
            if not self._left:
                self._end(None)
            return
        error.request = self._id
        if self._is_batch:
            error = of_rows(error, number, self._rows)
        if self._end(error):
            # An answer that lacks a row is none.
            self._drop()

    # -- what differs ---------------------------------------------------------------------------------

    def _refuse_child(self) -> None:
        self._exchange.refuse_child()

    def _refuse_waiting(self) -> None:
        self._exchange.refuse_waiting()

    def _drop(self) -> None:
        jobs, self._jobs = self._jobs, []
        self._exchange.cancel(jobs)

    def _make(self) -> Result:
        names = tuple([tensor.name for tensor in self._description.interface.outputs])
        columns = [each for each in self._columns if each is not None]
        if not self._is_batch:
            return result_of(names, columns[0])
        values, copied = joined_batch(self._description.interface, list(zip(columns, self._rows)))
        self._copies.add(STACKED, copied)
        return Result.of_batch(names, values, {}, copied)

    def rows(self) -> list[dict[str, Any]]:
        """The values of each row of a batch that is answered, by output name."""
        return [
            {name: row_of(values, number) for name, values in columns.items()}
            for columns, rows in zip(self._columns, self._rows)
            if columns is not None
            for number in range(rows)
        ]

    def __repr__(self) -> str:
        of = f"a batch of {sum(self._rows)} requests" if self._is_batch else f"request {self._id}"
        if not self.done():
            return f"<RemoteFuture of {of}: under way>"
        what = "cancelled" if self.cancelled() else "answered" if self._error is None else f"failed, {self._error!r}"
        return f"<RemoteFuture of {of}: {what}>"


def result_of(names: tuple[str, ...], columns: Columns, part: int | None = None) -> Result:
    """The result of one request; it holds no slot of a pipeline, but its response's bytes."""
    result = Result.of_batch(names, one_row(columns), {}, 0)
    result.part = part
    return result


def in_parts(name: str) -> ClientMisuse:
    """What is wrong with a call whose answer comes in parts."""
    return ClientMisuse(
        f"the answer of model {name!r} comes in parts, which are no single result: iterate over runner.stream(...)"
    )
