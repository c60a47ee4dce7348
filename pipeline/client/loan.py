"""Loan: a slot that the caller writes itself, of a client that threads share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from pipeline.client.bindings import request_of
from pipeline.client.copies import RETRIES
from pipeline.client.gate import Gate
from pipeline.client.infer_future import InferFuture
from pipeline.client.inputs import limit_of
from pipeline.client.lent import Lent
from pipeline.client.reading import raise_error
from pipeline.client.request import Request
from pipeline.client.shared import SharedClient
from pipeline.errors import NotInTime, Unavailable

__all__ = ["Loan"]

Array = NDArray[Any]


class Loan(Lent):
    """The arrays of one request's inputs, in a slot of the pipeline. Made by `InferRunner.loan`.

        with runner.loan(Input3=(1, 28, 28)) as request:
            request["Input3"][...] = frame
            future = request.infer()

    At the end of the block a slot that was not sent goes back. Once it is sent or given back, the arrays are read-only;
    slices of them, and tensors of other libraries over them, cannot be made so: write none of them after that.

    Args:
        client: of the slot.
        shapes: of the inputs.
        timeout_s: seconds to wait for the slot; None: as long as it takes.
    """

    _BLOCK = "with"

    def __init__(self, client: SharedClient, shapes: Mapping[str, tuple[int, ...]], timeout_s: float | None) -> None:
        super().__init__()
        self._client = client
        self._shapes = shapes
        self._limit_s = None if timeout_s is None else limit_of(timeout_s)
        self._lent = Gate()

    # -- the slot -------------------------------------------------------------------------------------

    def __enter__(self) -> Loan:
        self._refuse_again()
        io = self._client.io
        io.refuse_waiting()
        request = self._request = request_of(self._client.specs, {}, None, 0, "", shapes=self._shapes)
        request.owner = self
        try:
            io.lend(request)
            came = self._lent.wait(self._limit_s)
        except BaseException:
            with suppress(Exception):
                io.cancel([request])
            raise
        if not came:
            io.cancel([request])
            raise NotInTime(f"no slot became free within {self._limit_s} s; the pipeline is full")
        raise_error(request)
        return self

    def request_done(self, request: Request) -> None:
        """Called by the I/O thread: the slot is lent, or none will be."""
        self._lent.open()

    def part_came(self) -> None:
        """Called by the I/O thread; a loan has no parts."""

    def __exit__(self, *_: object) -> None:
        if self._request is not None:
            self._client.io.give_back(self._request)

    # -- the request ----------------------------------------------------------------------------------

    def infer(
        self, *, deadline_ms: float | None = None, priority: int = 0, retries: int = 0, name: Any = None
    ) -> InferFuture:
        """Send the request; see `InferRunner.infer`. Once.

        Args:
            retries: the inputs are copied out of the slot for it.

        Raises:
            ClientMisuse: it was sent or given back before.
            Unavailable: its slot went with a scheduler that has died, and no retry was allowed.
        """
        client = self._client
        request = self._handed_on(client.specs, deadline_ms, priority, name, retries)
        if retries:
            client.io.session.copies.add(RETRIES, sum([array.nbytes for array in request.inputs.values()]))
        future = InferFuture(client, client.io, [request], False)
        if not client.io.submit_lent(request):
            if not retries:
                raise Unavailable("this slot went with the scheduler that has died; take another loan")
            client.io.put([request], block=True)
        return future

    def __repr__(self) -> str:
        return f"<Loan of {dict(self._shapes)}: {self._state()}>"
