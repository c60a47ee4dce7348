"""Admission: whether a request fits a model, and what its tensors are to the pipeline. Pure.

The order is Triton's: names, then datatypes, shapes and the batch, then bytes. Every refusal is INVALID_ARGUMENT unless
said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import KserveError
from pipeline.kserve.datatypes import BYTES, element_views, expected_nbytes
from pipeline.kserve.model import Model, axes_of, datatype_of, shape_of
from pipeline.kserve.values import InferRequest, InferTensor, Region, RequestedOutput
from pipeline.wire.interface import Tensor
from shm.handle import JSON, LENGTH_BYTES

__all__ = ["Admitted", "AdmittedInput", "admit", "check_region", "elements_in", "regions_of"]


@dataclass(frozen=True, slots=True)
class AdmittedInput:
    """An input that fits, as the pipeline takes it."""

    tensor: Tensor
    """Of the pipeline's interface."""
    shape: tuple[int, ...]
    """Of one row."""
    sent: InferTensor
    """With its bytes or its region."""

    @property
    def count(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that fits its model."""

    rows: int
    """Requests of the pipeline that it is; 1 without a batch axis."""
    inputs: tuple[AdmittedInput, ...]
    """In the order of the interface."""
    outputs: tuple[RequestedOutput, ...]
    """In the order in which the request has them; all of the interface's if it names none."""


def admit(request: InferRequest, model: Model, streams: bool = False) -> Admitted:
    """What the request is to the pipeline.

    Args:
        streams: whether it came over a stream, which can take several responses.

    Raises:
        KserveError: it does not fit; UNIMPLEMENTED if the model is decoupled and there can be one response only.
    """
    if model.decoupled and not streams:
        raise KserveError(
            f"ModelInfer doesn't support models with decoupled transaction policy, such as {model.name!r}; expected "
            f"ModelStreamInfer",
            "UNIMPLEMENTED",
        )
    sent = _inputs_by_name(request, model)
    outputs = _outputs(request, model)
    rows: int | None = None
    inputs = []
    for tensor in model.interface.inputs:
        found = sent[tensor.name]
        shape = _fitted(found, tensor, model)
        if model.max_batch_size:
            if rows is not None and rows != found.shape[0]:
                raise KserveError(
                    f"input {tensor.name!r} batch size does not match other inputs for {model.name!r}: expected "
                    f"{rows}, found {found.shape[0]}"
                )
            rows = found.shape[0]
        inputs.append(AdmittedInput(tensor, shape, found))
    if rows is not None and not 1 <= rows <= model.max_batch_size:
        raise KserveError(
            f"inference request batch-size must be <= {model.max_batch_size} and at least 1 for {model.name!r}, found "
            f"{rows}"
        )
    for entry in inputs:
        _check_bytes(entry, rows or 1, model)
    return Admitted(rows or 1, tuple(inputs), outputs)


def _inputs_by_name(request: InferRequest, model: Model) -> dict[str, InferTensor]:
    sent: dict[str, InferTensor] = {}
    for tensor in request.inputs:
        if tensor.name in sent:
            raise KserveError(f"input {tensor.name[:200]!r} already exists in request")
        sent[tensor.name] = tensor
    known = [tensor.name for tensor in model.interface.inputs]
    for name in sent:
        if name not in known:
            raise KserveError(f"unexpected inference input {name[:200]!r} for model {model.name!r}; expected {known}")
    if missing := [name for name in known if name not in sent]:
        raise KserveError(
            f"expected {len(known)} inputs but got {len(sent)} inputs for model {model.name!r}. Got input(s) "
            f"{sorted(sent)}, but missing required input(s) {missing}. Please provide all required input(s)."
        )
    return sent


def _outputs(request: InferRequest, model: Model) -> tuple[RequestedOutput, ...]:
    known = {tensor.name: tensor for tensor in model.interface.outputs}
    if not request.outputs:
        return tuple([RequestedOutput(name) for name in known])
    seen = set()
    for output in request.outputs:
        tensor = known.get(output.name)
        if tensor is None:
            raise KserveError(
                f"unexpected inference output {output.name[:200]!r} for model {model.name!r}; expected {list(known)}"
            )
        if output.name in seen:
            raise KserveError(f"output {output.name!r} already exists in request")
        seen.add(output.name)
        if output.classes and not _classifiable(tensor):
            raise KserveError(
                f"class result not available for output {output.name!r}: expected a number of 8 to 64 bits, found "
                f"{datatype_of(tensor).name}"
            )
    return request.outputs


def _classifiable(tensor: Tensor) -> bool:
    """Whether its values can be told as classes."""
    return datatype_of(tensor).name not in (BYTES, "BOOL", "FP16", "BF16")


def _fitted(found: InferTensor, tensor: Tensor, model: Model) -> tuple[int, ...]:
    """The shape of one row."""
    kind = datatype_of(tensor)
    if found.datatype != kind.name:
        raise KserveError(
            f"inference input {tensor.name!r} data-type is {found.datatype!r}, but model {model.name!r} expects "
            f"{kind.name!r}"
        )
    expected = shape_of(model, tensor)
    if len(found.shape) != len(expected):
        note = (
            f" The first axis is the batch, since the model has a max_batch_size of {model.max_batch_size}."
            if model.max_batch_size
            else ""
        )
        raise KserveError(
            f"unexpected shape for input {tensor.name!r} for model {model.name!r}. Expected {list(expected)}, got "
            f"{list(found.shape)}.{note}"
        )
    row = found.shape[1:] if model.max_batch_size else found.shape
    if why := _misfit(tensor, row):
        raise KserveError(
            f"unexpected shape for input {tensor.name!r} for model {model.name!r}. Expected {list(expected)}, got "
            f"{list(found.shape)}: {why}."
        )
    return row


def _misfit(tensor: Tensor, row: tuple[int, ...]) -> str | None:
    """Why the shape of a row, of as many axes as it needs, does not fit; None if it does."""
    if tensor.dtype == JSON:
        return None if row == (1,) else "a JSON document is one element"
    bound: dict[str, int] = {}
    for axis, extent in zip(axes_of(tensor), row):
        if not axis.name and extent != axis.most:
            return f"{extent} in place of {axis.most}"
        if axis.name and extent > axis.most:
            return f"dimension {axis.name!r} has at most {axis.most}"
        if axis.name and bound.setdefault(axis.name, extent) != extent:
            return f"dimension {axis.name!r} is both {bound[axis.name]} and {extent}"
    return None


def _check_bytes(entry: AdmittedInput, rows: int, model: Model) -> None:
    sent, name = entry.sent, entry.tensor.name
    found = sent.region.nbytes if sent.region is not None else sent.data.nbytes if sent.data is not None else 0
    expected = expected_nbytes(datatype_of(entry.tensor), sent.shape)
    if expected is not None and found != expected:
        raise KserveError(
            f"input byte size mismatch for input {name!r} for model {model.name!r}. Expected {expected}, got {found}"
        )
    if expected is None and sent.data is not None:
        elements_in(entry, rows, sent.data)


def elements_in(entry: AdmittedInput, rows: int, data: memoryview) -> list[memoryview]:
    """The elements of an input of BYTES, row after row, `entry.count` for each.

    Args:
        data: its bytes; of one in shared memory, what was read from there.

    Raises:
        KserveError: they do not add up, or a row has more bytes than the pipeline takes.
    """
    label = f"inference input {entry.tensor.name!r}"
    elements = element_views(data, rows * entry.count, label)
    if entry.tensor.dtype == JSON:
        most = entry.tensor.axes[0].most
        for element in elements:
            if element.nbytes > most:
                raise KserveError(f"{label}: expected a JSON document of at most {most} bytes, found {element.nbytes}")
        return elements
    most = entry.tensor.axes[-1].most
    for row in range(rows):
        found = sum([LENGTH_BYTES + each.nbytes for each in elements[row * entry.count : (row + 1) * entry.count]])
        if found > most:
            raise KserveError(
                f"{label}: expected at most {most} bytes in a row, {LENGTH_BYTES} for each element's length included; "
                f"found {found}"
            )
    return elements


def check_region(region: Region, registered: Mapping[str, int]) -> None:
    """That a part of shared memory lies within the region that it names.

    Args:
        registered: bytes of each region that is registered.

    Raises:
        KserveError: no such region (NOT_FOUND), or bytes beyond its end.
    """
    size = registered.get(region.name)
    if size is None:
        raise KserveError(f"Unable to find shared memory region: {region.name[:200]!r}", "NOT_FOUND")
    # No overflow: Python's numbers have none, and both are at least 0.
    if region.offset + region.nbytes > size:
        raise KserveError(
            f"Invalid offset + byte size for shared memory region: {region.name!r}: expected at most {size}, found "
            f"{region.offset} + {region.nbytes}"
        )


def regions_of(request: InferRequest) -> list[Region]:
    """All parts of shared memory that a request names, of inputs and outputs."""
    named = [*[tensor.region for tensor in request.inputs], *[output.region for output in request.outputs]]
    return [region for region in named if region is not None]
