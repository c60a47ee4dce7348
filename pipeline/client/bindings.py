"""Bindings: what a model takes and gives, and the requests that a call makes, for threads and for asyncio."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.client.batches import requests_of
from pipeline.client.inputs import arrays_of, checked_traceparent, given_of, lay_out_arrays, misfit_of
from pipeline.client.request import Request
from pipeline.errors import InvalidRequest
from pipeline.wire.interface import Interface
from pipeline.wire.labels import short_name
from stages.spec import TensorSpec

__all__ = ["Bindings", "Model", "call_of", "fitting", "input_of", "many_of", "parted_of", "request_of"]


class Model(Protocol):
    """What tells what a model takes and gives: a client of a pipeline of this host, or a model of a server."""

    @property
    def interface(self) -> Interface:
        """Its name, inputs, outputs and stages."""

    @property
    def copied(self) -> dict[str, int]:
        """Bytes that were copied, by reason."""


class Bindings:
    """A model's inputs and outputs by name."""

    _client: Model

    @property
    def interface(self) -> Interface:
        """What runs on the other side: its name, inputs, outputs and stages.

        Raises:
            ClientMisuse: that is not known yet: `ready` waits for it.
        """
        return self._client.interface

    @property
    def copied(self) -> dict[str, int]:
        """Bytes that this program's client of the model has copied, beside those into slots, by reason
        (`pipeline.client.copies`)."""
        return self._client.copied

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._client!r}>"

    def input_bindings(self) -> dict[str, tuple[int | str, ...]]:
        """The shape of each input by name, {"Input3": (1, 28, 28)}; a free dimension is its name.

        Raises:
            ClientMisuse: that is not known yet: call `ready`.
        """
        return {name: spec.shape for name, spec in self.input_specs().items()}

    def output_bindings(self) -> dict[str, tuple[int | str, ...]]:
        """The shape of each output by name. Raises as `input_bindings`."""
        return {name: spec.shape for name, spec in self.output_specs().items()}

    def input_specs(self) -> dict[str, TensorSpec]:
        """Dtype, shape and the maximum of each free dimension of each input by name. Raises as `input_bindings`."""
        return self.interface.specs

    def output_specs(self) -> dict[str, TensorSpec]:
        """The same of each output."""
        return {tensor.name: tensor.spec for tensor in self.interface.outputs}


def input_of(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """The array of a loan's input of this name.

    Raises:
        KeyError: the pipeline has no such input.
    """
    if name not in arrays:
        raise KeyError(f"input {name!r}: expected one of {', '.join(arrays)}")
    return arrays[name]


def request_of(
    specs: Mapping[str, TensorSpec],
    arrays: Mapping[str, NDArray[Any]],
    deadline_ms: float | None,
    priority: int,
    name: Any,
    retries: int = 0,
    *,
    in_parts: bool = False,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    rows: int = 0,
    traceparent: object = "",
) -> Request:
    """A request of a call's options; see `Request`.

    Args:
        deadline_ms: milliseconds from now; None: none.

    Raises:
        InvalidRequest: an option is not what it must be.
    """
    if (why := misfit_of(deadline_ms, priority, name)) is not None:
        raise InvalidRequest(why)
    if type(retries) is not int or retries < 0:
        raise InvalidRequest(f"retries: expected how often to send it again, 0 or more, found {retries!r}")
    trace = checked_traceparent(traceparent)
    deadline = 0 if deadline_ms is None else time.monotonic_ns() + int(deadline_ms * 1e6)
    return Request(
        arrays, specs, deadline=deadline, priority=int(priority), name=short_name(name or ""), retries=retries,
        in_parts=in_parts, shapes=shapes, rows=rows, traceparent=trace,
    )  # fmt: skip


def call_of(
    specs: Mapping[str, TensorSpec],
    inputs: object,
    more: dict[str, Any],
    deadline_ms: float | None,
    priority: int,
    name: Any,
    retries: int,
    most: int = 1,
    traceparent: str = "",
) -> tuple[list[Request], bool]:
    """The requests of one call of `infer`, and whether they are a batch.

    Args:
        inputs, more: as the caller has given them; see `given_of`.
        name: of the request, or the value of the input that is called `name`.
        most: how many rows one request may carry.

    Raises:
        InvalidRequest: the inputs do not fit the pipeline's, or an option is not what it must be.
    """
    given = given_of(specs, inputs, more)
    if name is not None and "name" in specs and "name" not in given:
        given, name = {**given, "name": name}, None
    made = []
    arrays, is_batch = requests_of(specs, given, most)
    for each in arrays:
        rows = len(next(iter(each.values()))) if is_batch and most > 1 else 0
        made.append(request_of(specs, each, deadline_ms, priority, name, retries, rows=rows, traceparent=traceparent))
    return made, is_batch


def many_of(
    specs: Mapping[str, TensorSpec],
    requests: Iterable[object],
    deadline_ms: float | None,
    priority: int,
    name: Any,
    retries: int,
    traceparent: str = "",
) -> list[Request]:
    """The requests of one call of `infer_many`.

    Args:
        requests: the inputs by name of each.

    Raises:
        InvalidRequest: those of one do not fit the pipeline's, and which; or an option is not what it must be.
    """
    made = []
    if isinstance(requests, Mapping):
        raise InvalidRequest("expected a list that has a mapping for each request, found a mapping; write [{...}]")
    for number, given in enumerate(requests):
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"request {number}: expected a mapping of inputs, found {type(given).__name__}")
        try:
            arrays = fitting(specs, given)
        except InvalidRequest as error:
            raise InvalidRequest(f"request {number}: {error}") from None
        made.append(request_of(specs, arrays, deadline_ms, priority, name, retries, traceparent=traceparent))
    return made


def parted_of(
    specs: Mapping[str, TensorSpec],
    inputs: object,
    more: dict[str, Any],
    deadline_ms: float | None,
    priority: int,
    name: Any,
    traceparent: str = "",
) -> Request:
    """The request of one call of `stream`. Args and Raises: as `call_of`."""
    arrays = fitting(specs, given_of(specs, inputs, more))
    return request_of(specs, arrays, deadline_ms, priority, name, in_parts=True, traceparent=traceparent)


def fitting(specs: Mapping[str, TensorSpec], given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of one request, which is no batch.

    Raises:
        InvalidRequest: they do not fit the pipeline's inputs.
    """
    arrays = arrays_of(specs, given)
    lay_out_arrays(specs, arrays)
    return arrays
