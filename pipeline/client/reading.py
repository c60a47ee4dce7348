"""Reading: the result of a request that is over, of a part of its answer, or of a batch."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.client.answering import result_of, stages_of
from pipeline.client.batches import joined, of_rows, stacked
from pipeline.client.copies import STACKED
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.client.session import Session
from pipeline.errors import ClientMisuse, RequestError, Unavailable
from pipeline.wire.messages import Answer
from shm.errors import ShmError

__all__ = ["raise_error", "read", "read_batch"]


def read(session: Session, request: Request, part: Answer | None = None) -> Result:
    """The outputs of a request that is over, or of a part of its answer that has come.

    Raises:
        RequestError: it has failed.
        ClientMisuse: its answer has come in several parts, and none is given.
    """
    pending = request.pending
    if part is None:
        raise_error(request)
        if pending is not None and pending.received:
            raise ClientMisuse(
                f"the answer to request {request.request} has come in {len(pending.received)} parts, which are no "
                f"single result: iterate over runner.stream(...)"
            )
    return _read(session, request, part, briefly=False)


def read_batch(session: Session, requests: Sequence[Request]) -> Result:
    """The outputs of the requests of a batch as one, if all are over, or one has failed. See `batches.stacked`.

    Raises:
        RequestError: one has failed; it says which row that is.
    """
    for number, request in enumerate(requests):
        try:
            raise_error(request)
        except RequestError as error:
            raise of_rows(error, number, [each.rows or 1 for each in requests]) from error.__cause__
    if len(requests) == 1 and requests[0].rows:
        return _read(session, requests[0], None, briefly=False)
    # Not the session's, which may be that of a later version.
    pending = requests[0].pending
    assert pending is not None
    interface = pending.interface
    rows = [_read(session, request, None, briefly=True) for request in requests]
    values, copied = (joined if requests[0].rows else stacked)(interface, rows)
    session.copies.add(STACKED, copied)
    return Result.of_batch(tuple([tensor.name for tensor in interface.outputs]), values, stages_of(rows), copied)


def raise_error(request: Request) -> None:
    """Raise why a request that is over failed, if it did."""
    error = request.error()
    if error is not None:
        try:
            raise error
        finally:
            # Otherwise it and this frame would refer to each other, and keep the request's slots.
            del error


def _read(session: Session, request: Request, part: Answer | None, *, briefly: bool) -> Result:
    pending = request.pending
    assert pending is not None
    try:
        session.unread.take(pending)
        result = result_of(pending, part=part, briefly=briefly)
    except ShmError as error:
        raise Unavailable(f"{error}; the pipeline's memory has changed under this client: send again") from error
    if part is None:
        # The result has what they hold now.
        pending.give_back()
        pending.moved = {}
    return result
