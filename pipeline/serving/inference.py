"""Inference: a decoded request to the pipeline's requests, and their results to a response. The same for both fronts.

    InferRequest ──admit──▶ requests ──▶ client.aio ──▶ results ──▶ InferResponse
                    │                                      │
                 regions.read                          regions.write

Whatever ends the call early, such as a caller that hangs up, cancels its requests in the pipeline, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import NamedTuple

from pipeline.client.aio import AsyncClient
from pipeline.client.aio_runner import AsyncParts
from pipeline.client.batches import of_rows
from pipeline.client.bindings import request_of
from pipeline.client.reading import raise_error
from pipeline.client.request import Request
from pipeline.client.result import Result
from pipeline.errors import ClientMisuse, KserveError, PipelineError, RequestError
from pipeline.kserve.admission import Admitted, admit, regions_of
from pipeline.kserve.datatypes import BYTES
from pipeline.kserve.model import Model
from pipeline.kserve.parameters import EMPTY_FINAL, Scheduling, scheduling_of
from pipeline.kserve.statuses import error_of_failure
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor
from pipeline.metrics.traffic import ELEMENTS, SHARED_IN, SHARED_OUT, STACKED, UNPACKED, Traffic
from pipeline.serving.catalogue import Catalogue, Served
from pipeline.serving.conversion import rows_of, tensors_of, together_of
from pipeline.serving.regions import Held, Regions
from pipeline.wire.limits import LOWEST_PRIORITY
from pipeline.wire.traceparent import misfit

__all__ = ["FINAL", "Inference", "Part", "deadline_of", "trace_of"]

FINAL = "triton_final_response"
"""The parameter that every response over a stream has."""

#: The largest time that a pipeline takes; a longer one is none.
_LONGEST_MS = 86_400_000.0
#: How often a request is sent again whose scheduler has died with it.
_RETRIES = 2


class Part(NamedTuple):
    """A response over a stream."""

    response: InferResponse
    final: bool


def deadline_of(scheduling: Scheduling, left_s: float | None) -> float | None:
    """Milliseconds from now until the answer is not wanted; None: it always is.

    Args:
        left_s: what the caller's connection says, such as the deadline of gRPC.

    Raises:
        KserveError: it is over already (DEADLINE_EXCEEDED).
    """
    limits = [left_s * 1e3] if left_s is not None else []
    if scheduling.timeout_us:
        limits.append(scheduling.timeout_us / 1e3)
    if not limits:
        return None
    least = min(limits)
    if least <= 0:
        raise KserveError("the request's deadline was over before it was taken", "DEADLINE_EXCEEDED")
    return least if least <= _LONGEST_MS else None


def trace_of(header: str) -> str:
    """The header traceparent of https://www.w3.org/TR/trace-context/; empty: there is none, or no sound one."""
    text = header.strip()
    return text if misfit(text) is None else ""


class Inference:
    """Runs requests."""

    def __init__(self, catalogue: Catalogue, regions: Regions) -> None:
        self._catalogue = catalogue
        self._regions = regions
        #: Requests under way.
        self.running = 0
        self.traffic = Traffic()

    async def infer(
        self, request: InferRequest, *, left_s: float | None = None, traceparent: str = ""
    ) -> InferResponse:
        """The response to a request, whole.

        Raises:
            KserveError: it has none.
        """
        begun = time.perf_counter_ns()
        served = await self._catalogue.found(request.model, request.version)
        with self._under_way(served, begun):
            return await self._whole(served, request, left_s, traceparent, begun)

    @contextmanager
    def _under_way(self, served: Served, begun: int) -> Iterator[None]:
        """While the block runs, a request is under way; if it ends by an error, it is counted as failed.

        Raises:
            KserveError: in place of another error of the pipeline.
        """
        self.running += 1
        try:
            yield
        except BaseException as error:
            # A caller that hangs up ends it by CancelledError or GeneratorExit.
            served.tally.failed(time.perf_counter_ns() - begun)
            if isinstance(error, PipelineError):
                raise _told(error) from None
            raise
        finally:
            self.running -= 1

    async def _whole(
        self, served: Served, request: InferRequest, left_s: float | None, traceparent: str, begun: int
    ) -> InferResponse:
        model = served.model
        admitted = admit(request, model)
        with self._regions.acquired(regions_of(request)) as held:
            made = self._requests(served.client, request, admitted, held, left_s, traceparent)
            given_ns = time.perf_counter_ns()
            results = await _results(served.client, made)
            answered_ns = time.perf_counter_ns()
            outputs = self._outputs(model, admitted, held, results, together=made[0].rows > 0)
        now = time.perf_counter_ns()
        rows = [result.stages for each, result in zip(made, results) for _ in range(each.rows or 1)]
        served.tally.answered(
            rows, ns=now - begun, input_ns=given_ns - begun, output_ns=now - answered_ns,
            wall_ms=time.time_ns() // 1_000_000,
        )  # fmt: skip
        return InferResponse(model.name, model.version, outputs, request.id)

    async def stream(
        self, request: InferRequest, *, left_s: float | None = None, traceparent: str = ""
    ) -> AsyncGenerator[Part, None]:
        """The responses to a request: one for each part of its answer, as soon as it is there.

        Raises:
            KserveError: there is none, or no other one.
        """
        served = await self._catalogue.found(request.model, request.version)
        if not served.model.decoupled:
            whole = await self.infer(request, left_s=left_s, traceparent=traceparent)
            yield Part(replace(whole, parameters={FINAL: True}), True)
            return
        begun = time.perf_counter_ns()
        with self._under_way(served, begun):
            # Closed at once, and not when it is collected: it has the request and its regions.
            async with aclosing(self._parts(served, request, left_s, traceparent, begun)) as parts:
                async for part in parts:
                    yield part

    async def _parts(
        self, served: Served, request: InferRequest, left_s: float | None, traceparent: str, begun: int
    ) -> AsyncGenerator[Part, None]:
        model, client = served.model, served.client
        admitted = admit(request, model, streams=True)
        with self._regions.acquired(regions_of(request)) as held:
            (sent,) = self._requests(client, request, admitted, held, left_s, traceparent, in_parts=True)
            given_ns = time.perf_counter_ns()

            async def make() -> Request:
                return sent

            stages = []
            async with AsyncParts(client, make) as parts:
                async for result in parts:
                    stages = [result.stages]
                    outputs = self._outputs(model, admitted, held, [result])
                    yield Part(InferResponse(model.name, model.version, outputs, request.id, {FINAL: False}), False)
        now = time.perf_counter_ns()
        served.tally.answered(
            stages, ns=now - begun, input_ns=given_ns - begun, output_ns=0, wall_ms=time.time_ns() // 1_000_000
        )
        if request.parameters.get(EMPTY_FINAL):
            yield Part(InferResponse(model.name, model.version, (), request.id, {FINAL: True}), True)

    def _requests(
        self,
        client: AsyncClient,
        request: InferRequest,
        admitted: Admitted,
        held: Held,
        left_s: float | None,
        traceparent: str,
        *,
        in_parts: bool = False,
    ) -> list[Request]:
        """The pipeline's requests, not sent yet."""
        scheduling = scheduling_of(request.parameters)
        deadline_ms = deadline_of(scheduling, left_s)
        priority = 0 if scheduling.priority is None else min(scheduling.priority, LOWEST_PRIORITY)
        trace = trace_of(traceparent)
        data = {}
        for entry in admitted.inputs:
            region = entry.sent.region
            found = entry.sent.data if region is None else held.read(region)
            assert found is not None
            data[entry.tensor.name] = found
            self.traffic.copy(UNPACKED, entry.sent.copied)
            self.traffic.copy(SHARED_IN, 0 if region is None else found.nbytes)
            if entry.sent.datatype == BYTES:
                self.traffic.copy(ELEMENTS, found.nbytes)
        specs, most = client.specs, client.interface.rows
        if most > 1 and admitted.rows > 1:
            return [
                request_of(specs, arrays, deadline_ms, priority, request.id, _RETRIES, rows=rows, traceparent=trace)
                for rows, arrays in together_of(admitted, data, most)
            ]
        return [
            request_of(
                specs, row, deadline_ms, priority, request.id, 0 if in_parts else _RETRIES, in_parts=in_parts,
                traceparent=trace,
            )
            for row in rows_of(admitted, data)
        ]  # fmt: skip

    def _outputs(
        self, model: Model, admitted: Admitted, held: Held, results: Sequence[Result], *, together: bool = False
    ) -> tuple[InferTensor, ...]:
        """The outputs of a response, those in shared memory written there."""
        wanted = {output.name: output.region for output in admitted.outputs}
        outputs = []
        for tensor in tensors_of(model, admitted.outputs, results, together):
            region = wanted[tensor.name]
            self.traffic.copy(ELEMENTS if tensor.datatype == BYTES else STACKED, tensor.copied)
            if region is not None:
                assert tensor.data is not None
                held.write(region, tensor.data)
                self.traffic.copy(SHARED_OUT, tensor.data.nbytes)
                tensor = replace(tensor, data=None, region=region._replace(nbytes=tensor.data.nbytes))
            outputs.append(tensor)
        return tuple(outputs)


async def _results(client: AsyncClient, made: list[Request]) -> list[Result]:
    """Send requests in one message, and wait for all of them, or for the first that fails."""
    try:
        # Not `block`: what waits here has its bytes in memory.
        for number, future in enumerate(client.put(made, block=False)):
            await future
            try:
                raise_error(made[number])
            except RequestError as error:
                if len(made) == 1:
                    raise
                raise error_of_failure(of_rows(error, number, [each.rows or 1 for each in made])) from None
        return [client.result(each) for each in made]
    finally:
        for each in made:
            client.cancel(each)


def _told(error: PipelineError) -> KserveError:
    """What the caller hears."""
    if isinstance(error, KserveError):
        return error
    if isinstance(error, RequestError):
        return error_of_failure(error)
    if isinstance(error, ClientMisuse):
        # The model was unloaded, and its client closed, in the middle of it.
        return KserveError(f"the model is not served any more: {error}", "UNAVAILABLE")
    return KserveError(str(error), "INTERNAL")

