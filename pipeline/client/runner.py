"""InferRunner: what a program calls to have one model infer, from any number of threads.

    future = runner.infer(Input3=array)                  one request, or a batch of them; returns at once
    result = future.get()

    futures = runner.infer_many([{"Input3": array}, ...])
    for part in runner.stream(prompt=text): ...
    with runner.loan(Input3=(1, 28, 28)) as request: ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.client.bindings import Bindings, call_of, many_of, parted_of
from pipeline.client.infer_future import InferFuture
from pipeline.client.inputs import given_of, lay_out
from pipeline.client.loan import Loan
from pipeline.client.parts import Parts
from pipeline.client.shared import SharedClient

__all__ = ["InferRunner"]


class InferRunner(Bindings):
    """Has one model infer, for any number of threads.

    Args:
        client: connected.
    """

    _client: SharedClient

    def __init__(self, client: SharedClient) -> None:
        self._client = client

    def ready(self) -> None:
        """Wait until it is known what the model takes and gives. Only a runner of a model that was not there yet when
        its manager connected has to wait.

        Raises:
            Unavailable: the model does not run, or is not ready in time.
        """
        self._client.ready()

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
    ) -> InferFuture:
        """Send one request, or a batch of them in one message. Returns at once; then the arrays may be changed.

        Args:
            inputs: the inputs by name, whatever they are called: arrays, bytes, or what has `__array__` or
                `__dlpack__`; a JSON value for a "json" input. An array with one dimension more than its input's shape
                is a batch, if all inputs are; a "json" input of a batch is a list.
            more: the inputs by keyword, or those that `inputs` does not have.
            deadline_ms: milliseconds from now after which the answer is not wanted any more.
            priority: 0 is the highest, 9 the lowest.
            retries: how often the request is sent again if the scheduler dies with it. Its inputs are copied for that.
            block: if more than `pending` requests would wait for a slot, wait until fewer do.
            name: what logs and stages call the request, at most 200 characters. If an input is called `name`, and
                `inputs` does not have it, this is that input.
            traceparent: the trace that the request is part of, as W3C Trace Context writes it; empty: of none.

        Returns:
            The future of the outputs by name. Of a batch, an output is an array with n rows; a "json" output, one with
            a free dimension, and one that was skipped for some of the rows, is a list of n values.

        Raises:
            InvalidRequest: the inputs do not fit the pipeline's.
            Overloaded: not `block`, and more requests would wait for a slot than may.
            Unavailable: it is not known yet what the model takes, and it is not there.
            ClientMisuse: the client is closed, or another process's.
        """
        client = self._client
        client.ready()
        most = client.interface.rows
        requests, is_batch = call_of(
            client.specs, inputs, more, deadline_ms, priority, name, retries, most, traceparent
        )
        if is_batch:
            return client.send_batch(requests, block=block)
        return client.send(requests, block=block)[0]

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
    ) -> list[InferFuture]:
        """Send many requests, as many as there are slots for in one message; a future for the answer to each.

            for future in futures: result = future.get()                                         in their order
            for future in concurrent.futures.as_completed(futures): result = future.get()        as they come

        Args and Raises: as `infer`; each of `requests` is the inputs by name of one request. If one does not fit, none
        is sent.
        """
        client = self._client
        client.ready()
        made = many_of(client.specs, requests, deadline_ms, priority, name, retries, traceparent)
        return client.send(made, block=block)

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
    ) -> Parts:
        """Send one request, and iterate over the parts of its answer, each a `Result`, as soon as it is there:

            for part in runner.stream(...): ...

        An answer that comes whole is its only part. Leaving early cancels the request, when what this returns is
        dropped or closed. Args and Raises: as `infer`; the error of the request is raised by the iteration.
        """
        client = self._client
        client.ready()
        return Parts(client, parted_of(client.specs, inputs, more, deadline_ms, priority, name, traceparent))

    def loan(
        self, inputs: Mapping[str, tuple[int, ...]] | None = None, /, *, timeout_s: float | None = None, **shapes: Any
    ) -> Loan:
        """A slot of the pipeline to write a request's inputs into, by the shape of each; no copy is made of them:

            with runner.loan(Input3=(1, 28, 28)) as request:
                request["Input3"][...] = frame
                future = request.infer()

        The block begins when there is a slot. A slot that is not sent goes back at its end.

        Args:
            inputs: shapes by input name, beside those by keyword.
            timeout_s: seconds to wait for a slot; None: as long as it takes.
            shapes: the shape of each input, a tuple of ints.

        Raises:
            InvalidRequest: a shape does not fit the pipeline's inputs.
            NotInTime: no slot became free in time (a TimeoutError); raised by the beginning of the block, as are:
            Overloaded: none will: this client's loans hold them.
            Unavailable: the pipeline has stopped or died.
        """
        client = self._client
        client.ready()
        specs = client.specs
        given = given_of(specs, inputs, shapes)
        lay_out(specs, given, client.interface.rows)
        return Loan(client, given, timeout_s)
