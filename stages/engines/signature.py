"""Signature: the tensors that a model's file declares, as the specs of one request.

    file                                        specs                    what each request gets
    x   float32 [N, 3, 224, 224]                x  [3, 224, 224]         a row: row r of a batch for request r
    y   float32 [N, 1000]                       y  [1000]                a row
    det float32 [num_dets, 7]                   det [num_dets<=100, 7]   the whole tensor, for batches of one only

The first axis of every input is the batch. For an output the file does not say so: a free first axis may be the batch
under another name, or a number of detections. This module decides as far as the file tells; whether an output that is
taken for rows really has one for each request shows when the engine runs (`stages.engines.engine`).

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shm.layout import ceil_div
from stages.engines.dimensions import unbounded
from stages.errors import ModelError
from stages.spec import TensorSpec

__all__ = ["NO_SHAPES", "ModelSpecs", "Shapes", "TensorAxes", "batch_axis", "model_specs", "quotient"]

#: Shapes of tensors without the batch, by the name in the model: extents, or names of free dimensions. A dimension of
#: an output may be "W/8": an eighth of the inputs' W. An output with as many extents as the file has axes is whole.
Shapes = Mapping[str, Sequence[int | str]]

NO_SHAPES: Shapes = MappingProxyType({})

_QUOTIENT = re.compile(r"(\w+)/([1-9]\d*)")

_Axes = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class TensorAxes:
    """A tensor as a model file declares it, batch axis included."""

    name: str
    dtype: str
    axes: _Axes
    """A number, the name of a free dimension, or None if it has no name."""


@dataclass(frozen=True, slots=True)
class ModelSpecs:
    """The inputs and outputs of a model for one request, without the batch axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: int | None
    """The one batch size for which the model was saved; None if it takes any."""
    whole: frozenset[str] = frozenset()
    """Outputs without a batch axis: the whole output belongs to one request."""
    alone: tuple[str, ...] = ()
    """Outputs that have no row for each request of a batch, including those of `whole`: batches must be of one."""
    doubtful: frozenset[str] = frozenset()
    """Outputs that are taken for rows although their first axis has another name than that of the inputs."""
    first: Mapping[str, int | str | None] = field(default_factory=dict)
    """First axis of each output, as the file declares it."""


def quotient(axis: Any) -> tuple[str, int] | None:
    """("W", 8) for "W/8"; None for any other axis."""
    match = _QUOTIENT.fullmatch(str(axis))
    return None if match is None else (match[1], int(match[2]))


def model_specs(
    path: Path,
    inputs: Sequence[TensorAxes],
    outputs: Sequence[TensorAxes],
    max: Mapping[str, int],
    shapes: Shapes = NO_SHAPES,
    leave_out: Collection[str] = (),
) -> ModelSpecs:
    """Remove the batch axis from the tensors that a model file declares.

    The first axis of every input is the batch: free in all of them, or the same number in all. An output is whole
    if `shapes` gives it as many extents as it has axes; if it has no axis, or its first axis is a number that no batch
    has; or if its first axis is a dimension that `max` names, or that an input has behind the batch. Otherwise it
    is rows.

    Args:
        path: the model's file, for messages.
        inputs, outputs: as the file declares them.
        max: maximum of each free dimension other than the batch, by its name.
        shapes: see `Shapes`.
        leave_out: outputs that are not needed; they are not checked.

    Raises:
        ModelError: there is no batch axis, a free dimension has no maximum, an output can be neither rows nor whole,
            or `shapes`, `max` or `leave_out` do not fit.
    """
    _check_names(path, inputs, outputs, shapes, leave_out)
    outputs = [tensor for tensor in outputs if tensor.name not in leave_out]
    batch, called = _batch_of(path, inputs)
    used: set[str] = set()
    takes = tuple(
        _spec(path, tensor, _row_shape(path, tensor, shapes.get(tensor.name)), max, used) for tensor in inputs
    )
    whole = frozenset(
        tensor.name
        for tensor in outputs
        if _is_whole(path, tensor, shapes.get(tensor.name), batch, (used | set(max)) - called)
    )
    given = {
        tensor.name: _whole_shape(path, tensor, shapes.get(tensor.name), called)
        if tensor.name in whole
        else _row_shape(path, tensor, shapes.get(tensor.name))
        for tensor in outputs
    }
    quotients = _quotients(given.values(), max, used)
    gives = tuple(_spec(path, tensor, given[tensor.name], {**quotients, **max}, used, True) for tensor in outputs)
    if unknown := sorted(set(max) - used):
        free = ", ".join(sorted(used - set(quotients))) or "none"
        raise ModelError(
            f"{path}: max names {unknown[0]!r}, which is not a free dimension of the model; it has: {free}"
        )
    return ModelSpecs(
        takes,
        gives,
        batch,
        whole,
        # One row for any number of rows: in a batch of one, it belongs to the request.
        alone=tuple(t.name for t in outputs if t.name in whole or (batch is None and isinstance(t.axes[0], int))),
        doubtful=_doubtful(outputs, whole, called),
        first={t.name: t.axes[0] if t.axes else None for t in outputs},
    )


def _check_names(
    path: Path,
    inputs: Sequence[TensorAxes],
    outputs: Sequence[TensorAxes],
    shapes: Shapes,
    leave_out: Collection[str],
) -> None:
    """Refuse names in the options that the model does not have.

    Raises:
        ModelError: with the name and those that the model has.
    """
    names = [tensor.name for tensor in outputs]
    if unknown := sorted(set(leave_out) - set(names)):
        raise ModelError(
            f"{path}: leave_out names {unknown[0]!r}, which is not an output of the model; it has: {', '.join(names)}"
        )
    if set(leave_out) == set(names):
        raise ModelError(f"{path}: leave_out leaves no output of the model; it has: {', '.join(names)}")
    if unknown := sorted(set(shapes) - {tensor.name for tensor in (*inputs, *outputs)}):
        own = ", ".join(tensor.name for tensor in (*inputs, *outputs))
        raise ModelError(f"{path}: shapes names {unknown[0]!r}, which is not a tensor of the model; it has: {own}")


def _batch_of(path: Path, inputs: Sequence[TensorAxes]) -> tuple[int | None, set[str]]:
    """The one size of batch that the model takes, None for any; and how its inputs call the batch's axis.

    Raises:
        ModelError: there is no batch axis.
    """
    found = batch_axis(tensor.axes for tensor in inputs)
    if found is None:
        declared = ", ".join(f"{t.name}{list(t.axes)}" for t in inputs)
        raise ModelError(
            f"{path}: expected the batch as first axis of each input, free, or one number in all; found {declared}"
        )
    return found


def batch_axis(inputs: Iterable[_Axes]) -> tuple[int | None, set[str]] | None:
    """The one size of the first axis of all inputs, None for any; and its names. None: they have no such axis.

    Args:
        inputs: the axes of each input of a model: an extent, the name of a free dimension, or None if it has no name.
    """
    first = {axes[0] if axes else 0 for axes in inputs}
    fixed = {axis for axis in first if isinstance(axis, int)}
    if fixed and (len(first) > 1 or min(fixed) < 1):
        return None
    return next(iter(fixed), None), {axis for axis in first if isinstance(axis, str)}


def _quotients(shapes: Iterable[_Axes], max: Mapping[str, int], used: Collection[str]) -> dict[str, int]:
    """The maximum of each dimension that is a part of one of the inputs', such as `W/8`."""
    names = {axis for shape in shapes for axis in shape if isinstance(axis, str)}
    return {axis: ceil_div(max[of[0]], of[1]) for axis in names if (of := quotient(axis)) and of[0] in used}


def _doubtful(outputs: Sequence[TensorAxes], whole: Collection[str], called: Collection[str]) -> frozenset[str]:
    """Outputs that are taken for rows, though their first axis has another name than the batch of the inputs."""
    rows = [tensor for tensor in outputs if tensor.name not in whole]
    return frozenset(t.name for t in rows if not isinstance(t.axes[0], int) and t.axes[0] not in called)


def _is_whole(
    path: Path, tensor: TensorAxes, shape: Sequence[int | str] | None, batch: int | None, dimensions: Collection[str]
) -> bool:
    """Whether a whole output belongs to one request, and not one row of it.

    Args:
        batch: the one size that the model takes; None: any.
        dimensions: names of free dimensions that are not the batch.

    Raises:
        ModelError: it can be neither.
    """
    axes = tensor.axes
    if (shape is not None and len(shape) == len(axes)) or not axes:
        is_whole = True
    elif isinstance(axes[0], int):
        is_whole = axes[0] != (batch or 1)
    else:
        is_whole = axes[0] in dimensions
    if is_whole and batch is not None and batch > 1:
        raise ModelError(
            f"{path}: the model takes batches of {batch}, and its output {tensor.name}{list(axes)} has no row for each "
            f"request; expected {batch} as its first axis. Leave it out: leave_out: [{tensor.name}]"
        )
    return is_whole


def _row_shape(path: Path, tensor: TensorAxes, shape: Sequence[int | str] | None) -> _Axes:
    """The shape without the batch, with the user's extents: each for a free dimension, or the same number."""
    return _given(path, tensor, tensor.axes[1:], shape)


def _whole_shape(path: Path, tensor: TensorAxes, shape: Sequence[int | str] | None, batch: Collection[str]) -> _Axes:
    """All axes; an axis that is the batch becomes 1."""
    return _given(path, tensor, tuple(1 if axis in batch else axis for axis in tensor.axes), shape)


def _given(path: Path, tensor: TensorAxes, own: _Axes, shape: Sequence[int | str] | None) -> _Axes:
    if shape is None:
        return own
    if len(own) != len(shape) or any(isinstance(axis, int) and axis != given for axis, given in zip(own, shape)):
        free = [axis if isinstance(axis, int) else "free" for axis in own]
        raise ModelError(f"{path}: shapes says {list(shape)} for {tensor.name}, expected one of {free}")
    return tuple(shape)


def _spec(
    path: Path, tensor: TensorAxes, axes: _Axes, max: Mapping[str, int], used: set[str], can_go: bool = False
) -> TensorSpec:
    # A dimension without a name gets one, so that a maximum can be given: tensor.axis, counted without the batch.
    shape = tuple(f"{tensor.name}.{i}" if axis is None else axis for i, axis in enumerate(axes))
    free = {axis for axis in shape if isinstance(axis, str)}
    number = len(tensor.axes) - len(axes)
    if missing := [(axis, i) for i, axis in enumerate(shape, number) if isinstance(axis, str) and axis not in max]:
        remedy = f"; or leave it out: leave_out: [{tensor.name}]" if can_go else ""
        raise ModelError(f"{path}: {unbounded(tensor.name, shape, *missing[0])}{remedy}")
    used |= free
    return TensorSpec(tensor.name, tensor.dtype, shape, {axis: max[axis] for axis in free})
