"""AsyncInferRunner: what a program calls to have one model infer, from the tasks of an asyncio loop.

    result = await runner.infer(Input3=array)            one request, or a batch of them
    futures = await runner.infer_many([{"Input3": array}, ...])
    async for part in runner.stream(prompt=text): ...

A task that is cancelled cancels its request, and so do `asyncio.timeout` and `asyncio.wait_for` when they end it: it is
dropped before its next stage, and its slots come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from pipeline.client.aio import AsyncClient
from pipeline.client.bindings import Bindings, call_of, many_of, parted_of, request_of
from pipeline.client.inputs import given_of, lay_out
from pipeline.client.lent import Lent
from pipeline.client.reading import raise_error
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.errors import ClientMisuse, PipelineError

__all__ = ["AsyncInferRunner", "AsyncLoan", "AsyncParts"]

Array = NDArray[Any]


class AsyncInferRunner(Bindings):
    """Has one model infer, for any number of tasks of the loop in which its client was connected.

    Args:
        client: connected.
    """

    _client: AsyncClient

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def infer(
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
    ) -> Result:
        """The answer to one request, or to a batch of them.

        The arrays are not copied, except into slots: do not change them until this returns.

        Args:
            inputs: the inputs by name, whatever they are called: arrays, bytes, or what has `__array__` or
                `__dlpack__`; a JSON value for a "json" input. An array with one dimension more than its input's shape
                is a batch, if all inputs are; a "json" input of a batch is a list.
            more: the inputs by keyword, or those that `inputs` does not have.
            deadline_ms: milliseconds from now after which the answer is not wanted any more.
            priority: 0 is the highest, 9 the lowest.
            retries: how often the request is sent again if the scheduler dies with it.
            block: whether to wait for a slot even if `pending` requests do.
            name: what logs and stages call the request, at most 200 characters. If an input is called `name`, and
                `inputs` does not have it, this is that input.
            traceparent: the trace that the request is part of, as W3C Trace Context writes it; empty: of none.

        Returns:
            The outputs by name. Of a batch, an output is an array with n rows; a "json" output, one with a free
            dimension, and one that was skipped for some of the rows, is a list of n values.

        Raises:
            InvalidRequest: the inputs do not fit the pipeline's.
            Overloaded: not `block`, and `pending` requests wait for a slot; or no slot will become free.
            RequestError: it has no answer (see `pipeline.errors`). Of a batch, the first row that has none is named.
            ClientMisuse: the client is closed, or another loop's or process's; or the answer has come in several parts.
        """
        client = self._client
        await client.ready()
        most = client.interface.rows
        requests, is_batch = call_of(
            client.specs, inputs, more, deadline_ms, priority, name, retries, most, traceparent
        )
        try:
            futures = client.put(requests, block=block)
            for request, future in zip(requests, futures):
                await future
                if is_batch and request.error() is not None:
                    break
            return client.stacked(requests) if is_batch else client.result(requests[0])
        finally:
            for request in requests:
                client.cancel(request)

    async def infer_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        deadline_ms: float | None = None,
        priority: int = 0,
        retries: int = 0,
        name: Any = None,
        traceparent: str = "",
    ) -> list[asyncio.Future[Result]]:
        """Send many requests, as many as there are slots for in one message; a future for the answer to each.

        When this returns, the arrays may be changed: they are in slots, or were copied, up to `pending` of them
        (counted in `copied`). A future that is cancelled cancels its request.

            for future in futures: result = await future                       in their order
            for future in asyncio.as_completed(futures): result = await future      as they come

        Args and Raises: as `infer`; each of `requests` is the inputs by name of one request. If one does not fit, none
        is sent. What fails later is the error of its future.
        """
        client = self._client
        await client.ready()
        made = many_of(client.specs, requests, deadline_ms, priority, name, retries, traceparent)
        for request in made:
            client.keep(request)
        answers = []
        for request, over in zip(made, client.put(made)):
            answer: asyncio.Future[Result] = over.get_loop().create_future()
            over.add_done_callback(partial(_settle, client, answer))
            answer.add_done_callback(partial(_drop, client, request))
            answers.append(answer)
        try:
            await client.placed(made)
        except BaseException:
            for request in made:
                client.cancel(request)
            raise
        return answers

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
    ) -> AsyncParts:
        """The parts of an answer that comes in parts, each a `Result`, as soon as it is there:

            async for part in runner.stream(...): ...

        An answer that comes whole is its only part. The request is sent by the first step of the iteration, and leaving
        it early cancels the request. Args and Raises: as `infer`; what is raised is raised by the iteration.
        """
        client = self._client

        async def make() -> Request:
            await client.ready()
            return parted_of(client.specs, inputs, more, deadline_ms, priority, name, traceparent)

        return AsyncParts(client, make)

    def loan(self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, **shapes: Any) -> AsyncLoan:
        """A slot of the pipeline to write a request's inputs into, by the shape of each; no copy is made of them:

            async with runner.loan(Input3=(1, 28, 28)) as request:
                request["Input3"][...] = frame
                result = await request.infer()

        The block begins when there is a slot. A slot that is not sent goes back at its end.

        Args:
            inputs: shapes by input name, beside those by keyword.
            shapes: the shape of each input, a tuple of ints.

        Raises (when the block begins):
            InvalidRequest: a shape does not fit the pipeline's inputs.
            Overloaded: no slot will become free: this client's loans hold them.
            Unavailable: the pipeline has stopped or died.
        """
        return AsyncLoan(self._client, inputs, shapes)

    # -- what it takes and gives ----------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until it is known what the model takes and gives. Only a runner of a model that was not there yet when
        its manager connected has to wait.

        Raises:
            Unavailable: the model does not run, or is not ready in time.
        """
        await self._client.ready()


def _settle(client: AsyncClient, answer: asyncio.Future[Result], over: asyncio.Future[Request]) -> None:
    """Hand the answer on to a future of `infer_many`."""
    if answer.done() or over.cancelled():
        return
    request = over.result()
    if (error := request.error()) is None:
        try:
            answer.set_result(client.result(request))
            return
        except PipelineError as raised:
            error = raised.with_traceback(None)
    answer.set_exception(error)


def _drop(client: AsyncClient, request: Request, answer: asyncio.Future[Result]) -> None:
    if answer.cancelled():
        client.cancel(request)


class AsyncParts(AsyncIterator[Result]):
    """The parts of one answer. Made by `AsyncInferRunner.stream`.

    Leaving the iteration early, or dropping this, cancels the request; so does `aclose`, or the end of an `async with`.
    One task iterates over it.
    """

    def __init__(self, client: AsyncClient, make: Callable[[], Awaitable[Request]]) -> None:
        self._client = client
        self._make = make
        self._request: Request | None = None
        self._given = 0
        self._asked = False
        self._closed = False

    def __aiter__(self) -> AsyncParts:
        return self

    async def __anext__(self) -> Result:
        if self._asked:
            # The first would never be woken.
            raise ClientMisuse("two tasks asked for the next part of one answer: let one task iterate over it")
        self._asked = True
        try:
            return await self._next()
        finally:
            self._asked = False

    async def _next(self) -> Result:
        client = self._client
        if self._closed:
            raise StopAsyncIteration
        if self._request is None:
            request = await self._make()
            client.put([request])
            self._request = request
        request = self._request
        while True:
            pending = request.pending
            if pending is not None and self._given < len(pending.received):
                part = list(pending.received.values())[self._given]
                self._given += 1
                return client.result(request, part)
            if request.done:
                break
            await client.more(request)
        self._closed = True
        raise_error(request)
        # An answer that came whole; but one of several parts may have none, or all of its outputs were skipped.
        if self._given or not (result := client.result(request)):
            raise StopAsyncIteration
        return result

    async def aclose(self) -> None:
        """The rest is not wanted. A second call does nothing."""
        self._close()

    def _close(self) -> None:
        self._closed = True
        if self._request is not None:
            self._client.cancel(self._request)

    async def __aenter__(self) -> AsyncParts:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._close()


class AsyncLoan(Lent):
    """The arrays of one request's inputs, in a slot of the pipeline. Made by `AsyncInferRunner.loan`.

    Once it is sent or given back, the arrays are read-only; slices of them, and tensors of other libraries over them,
    cannot be made so: write none of them after that.
    """

    _BLOCK = "async with"

    def __init__(
        self, client: AsyncClient, inputs: Mapping[str, tuple[int, ...]] | None, shapes: dict[str, Any]
    ) -> None:
        super().__init__()
        self._client = client
        self._given = inputs, shapes

    async def __aenter__(self) -> AsyncLoan:
        self._refuse_again()
        client = self._client
        await client.ready()
        shapes = given_of(client.specs, *self._given)
        lay_out(client.specs, shapes, client.interface.rows)
        self._request = request_of(client.specs, {}, None, 0, "", shapes=shapes)
        await client.lend(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._request is not None:
            self._client.give_back(self._request)

    async def infer(self, *, deadline_ms: float | None = None, priority: int = 0, name: Any = None) -> Result:
        """Send the request, and wait for its answer; see `AsyncInferRunner.infer`. Once.

        Raises:
            RequestError: it has no answer; Unavailable also if its slot went with a scheduler that has died.
            ClientMisuse: it was sent or given back before.
        """
        client = self._client
        request = self._handed_on(client.specs, deadline_ms, priority, name)
        try:
            await client.submit_lent(request)
            return client.result(request)
        finally:
            client.cancel(request)

    def __repr__(self) -> str:
        return f"<AsyncLoan: {self._state()}>"
