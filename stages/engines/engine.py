"""Engine: the contract between the inference stage and what runs a model.

    describe(path)          specs of the model, quickly and on any machine; may be called without the device
    load(threads, device)   read the model, claim the device
    warm_up(sizes, extents) run each batch size once, so that the first request does not pay for it
    known_shapes(inputs)    shapes of outputs with free dimensions, where a batch like this one was run before
    run(inputs, outputs)    arrays (n, *shape) in, arrays (n, *shape) out; any number of times
    close()                 give everything back

An engine that `can_start` also takes rows where they lie, and may compute several batches at once:

    attach_memory(buffers)  the shared memory that slots lie in, for an engine that wants to pin it
    start(inputs, outputs)  begin a batch; each tensor as one array a row, in place
    done(token)             is it over?

An engine sees arrays, never requests or slots. Batches larger or smaller than a model was saved for are
cut and padded here, so that an implementation runs only what its model takes.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from stages.engines.dimensions import unbounded
from stages.errors import BadInput, ModelError
from stages.spec import TensorSpec
from stages.stage import Array

__all__ = [
    "DEFAULTS",
    "NO_SHAPES",
    "REMEMBERED",
    "Engine",
    "EngineOptions",
    "ModelSpecs",
    "Shapes",
    "TensorAxes",
    "model_specs",
]

#: Shapes of tensors without the batch, by the model's name for each: extents, or names of free dimensions. That of
#: an output may be "W/8": an eighth of the inputs' W.
Shapes = Mapping[str, Sequence[int | str]]

NO_SHAPES: Shapes = MappingProxyType({})
#: Input shapes for which output shapes are remembered. The bound only keeps ever new shapes from filling memory.
REMEMBERED = 4096

_QUOTIENT = re.compile(r"(\w+)/([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is to run a model. What an engine has no use for, it passes over: a config runs anywhere."""

    precision: str = "auto"
    """"fp32", "fp16", "int8", or "auto": fp16 where the model was built in it, else fp32."""
    contexts: int = 1
    """Batches that may be computed at once. An engine may have more under way."""
    cuda_graphs: bool = True
    """Launch a batch as one graph instead of kernel by kernel."""


DEFAULTS = EngineOptions()


@dataclass(frozen=True, slots=True)
class ModelSpecs:
    """What a model takes and gives for one request, without the batch axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: int | None
    """The one batch size that the model was saved for; None where it takes any."""


class Engine(abc.ABC):
    """One model, run by one library.

    Args:
        path: the model's file.
        max: maximum of each free dimension other than the batch, by its name.
        options: how to run it.
        shapes: other names for free dimensions than the file's, which may be none or nonsense; or numbers,
            where fewer shapes are meant than the model could take.

    Raises:
        ModelError: the file is missing, damaged, or holds what this engine cannot run.
    """

    device: ClassVar[str] = "cpu"
    """What it runs on: "cpu" or "cuda"."""
    can_start: ClassVar[bool] = False
    """It has `start` and `done`, which take the rows where they lie."""

    def __init__(
        self, path: Path, max: Mapping[str, int], options: EngineOptions = DEFAULTS, shapes: Shapes = NO_SHAPES
    ) -> None:
        self.path = path
        self.options = options
        self.specs = self.describe(path, max, shapes)
        self._known: dict[tuple[tuple[int, ...], ...], dict[str, tuple[int, ...]]] = {}
        self._foreseeable = True

    @classmethod
    @abc.abstractmethod
    def describe(cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES) -> ModelSpecs:
        """The model's specs, from the file alone, in far less time than `load` takes."""

    @abc.abstractmethod
    def load(self, threads: int, device: str, max_batch: int = 1) -> None:
        """Make `run` possible. Called once.

        Args:
            threads: how many threads may be busy in `run`.
            device: "cpu" or "cuda:N".
            max_batch: the largest batch that will come.

        Raises:
            ModelError: the model cannot be run there.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what `load` took. May be called twice."""

    @abc.abstractmethod
    def _execute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """`run` for a batch size that the model takes."""

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: for every input a C-contiguous array (n, *shape).
            outputs: writable C-contiguous arrays (n, *shape) that are filled, for outputs whose shape is known.

        Returns:
            The outputs that are not in `outputs`, in memory of their own; and those whose shape was not what
            `known_shapes` had said, since it follows from more than the inputs' shapes.

        Raises:
            BadInput: the model cannot compute these inputs.
        """
        free = {spec.name for spec in self.specs.outputs if not spec.is_static}
        guessed = free.intersection(outputs)
        try:
            made = self._run(inputs, outputs)
        except BadInput:
            if not guessed:
                raise
            made = self._run(inputs, {name: array for name, array in outputs.items() if name not in guessed})
            if any(made[name].shape != outputs[name].shape for name in guessed):
                self._foreseeable = False
        if free and not guessed:
            self._remember(_shapes_of(inputs), {name: made[name].shape[1:] for name in free})
        return made

    def known_shapes(self, inputs: Mapping[str, Array | Sequence[Array]]) -> Mapping[str, tuple[int, ...]]:
        """Shapes (without the batch) of the outputs with free dimensions.

        The names of their dimensions tell, where the inputs have dimensions of these names; else an earlier batch
        whose inputs had the same shapes, of whatever size.

        Args:
            inputs: arrays (n, *shape), or n arrays (*shape) each.

        Returns:
            All of them by name, or none: where neither tells, or a batch has shown that the model's output
            shapes follow from more than its inputs' shapes.
        """
        if not self._foreseeable:
            return {}
        shapes = _shapes_of(inputs)
        if shapes not in self._known:
            extents: dict[str, int] = {}
            for spec in self.specs.inputs:
                extents.update((a, n) for a, n in zip(spec.shape, inputs[spec.name][0].shape) if isinstance(a, str))
            told = {spec.name: _told(spec, extents) for spec in self.specs.outputs if not spec.is_static}
            if None in told.values():
                return {}
            self._remember(shapes, {name: shape for name, shape in told.items() if shape is not None})
        return self._known[shapes]

    def _remember(self, inputs: tuple[tuple[int, ...], ...], outputs: dict[str, tuple[int, ...]]) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[inputs] = outputs

    def filled_up(self, size: int) -> int:
        """How many of `size` rows are copied since the model takes batches of one size, and the last one is short."""
        return size % self.specs.batch if self.specs.batch else 0

    def _run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        size = len(next(iter(inputs.values())))
        if self.specs.batch is None or self.specs.batch == size:
            return self._execute(inputs, outputs)
        parts = [self._run_part(rows, inputs, outputs) for rows in _chunks(size, self.specs.batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_part(self, rows: slice, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        ins = {name: array[rows] for name, array in inputs.items()}
        outs = {name: array[rows] for name, array in outputs.items()}
        found = rows.stop - rows.start
        if (padding := (self.specs.batch or found) - found) == 0:
            return self._execute(ins, outs)
        padded = {name: np.concatenate([a, np.zeros((padding, *a.shape[1:]), a.dtype)]) for name, a in ins.items()}
        parts = self._execute(padded, {})
        for name, array in outs.items():
            array[...] = parts.pop(name)[:found]
        return {name: array[:found] for name, array in parts.items()}

    @property
    def concurrency(self) -> int:
        """Batches that may be under way at once."""
        return 1

    @property
    def summary(self) -> str:
        """What was loaded and what it takes, for the log; empty where there is nothing to say."""
        return ""

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:  # noqa: B027 (not every engine cares)
        """The memory that rows lie in from now on; what was attached before is not used any more."""

    def start(self, inputs: Mapping[str, Sequence[Array]], outputs: Mapping[str, Sequence[Array]]) -> Any:
        """Begin a batch.

        Args:
            inputs: for every input one C-contiguous array (*shape) a row.
            outputs: for every output one writable C-contiguous array (*shape) a row.

        Returns:
            A token for `done`. Until that returned True, the arrays must not be touched.

        Raises:
            BadInput: the model cannot compute these inputs.
        """
        raise NotImplementedError

    def done(self, token: Any) -> bool:
        """Whether a batch is over. True is returned once.

        Raises:
            StageBroken: the device has failed.
        """
        raise NotImplementedError

    def warm_up(self, sizes: Sequence[int], extents: Sequence[Mapping[str, int]] = ()) -> None:
        """Run zeros of each batch size, free dimensions at their maximum, so that memory is at its peak too.

        Args:
            sizes: of the batches.
            extents: of free dimensions by name, to be run as well; what is not named is at its maximum.
        """
        for given in ({}, *extents):
            shapes = {
                spec.name: tuple(
                    given.get(axis, spec.max[axis]) if isinstance(axis, str) else axis for axis in spec.shape
                )
                for spec in self.specs.inputs
            }
            for size in sizes:
                self.run({s.name: np.zeros((size, *shapes[s.name]), s.dtype) for s in self.specs.inputs}, {})


@dataclass(frozen=True, slots=True)
class TensorAxes:
    """A tensor as a model file declares it, batch axis included."""

    name: str
    dtype: str
    axes: tuple[int | str | None, ...]
    """Number, name of a free dimension, or None for one without a name."""


def model_specs(
    path: Path,
    inputs: Sequence[TensorAxes],
    outputs: Sequence[TensorAxes],
    max: Mapping[str, int],
    shapes: Shapes = NO_SHAPES,
) -> ModelSpecs:
    """Take the batch axis off what a model file declares.

    The first axis of every tensor is the batch: free in all of them, or the same number in all.

    Raises:
        ModelError: there is no such axis, a free dimension has no maximum, or `shapes` does not fit.
    """
    if unknown := sorted(set(shapes) - {tensor.name for tensor in (*inputs, *outputs)}):
        own = ", ".join(tensor.name for tensor in (*inputs, *outputs))
        raise ModelError(f"{path}: shapes names {unknown[0]!r}, which is no tensor of the model; it has: {own}")
    inputs = [_reshaped(path, tensor, shapes.get(tensor.name)) for tensor in inputs]
    outputs = [_reshaped(path, tensor, shapes.get(tensor.name)) for tensor in outputs]
    first = {tensor.axes[0] if tensor.axes else 0 for tensor in (*inputs, *outputs)}
    fixed = {axis for axis in first if isinstance(axis, int)}
    if fixed and (len(first) > 1 or min(fixed) < 1):
        declared = ", ".join(f"{t.name}{list(t.axes)}" for t in (*inputs, *outputs))
        raise ModelError(
            f"{path}: expected the batch as first axis of each tensor, free, or one number in all; found {declared}"
        )
    used: set[str] = set()
    takes = tuple(_spec(path, tensor, max, used) for tensor in inputs)
    quotients = {
        axis: -(-max[match[1]] // int(match[2]))
        for tensor in outputs
        for axis in tensor.axes[1:]
        if isinstance(axis, str) and (match := _QUOTIENT.fullmatch(axis)) and match[1] in used
    }
    gives = tuple(_spec(path, tensor, {**quotients, **max}, used) for tensor in outputs)
    if unknown := sorted(set(max) - used):
        free = ", ".join(sorted(used - set(quotients))) or "none"
        raise ModelError(f"{path}: max names {unknown[0]!r}, which is no free dimension of the model; it has: {free}")
    return ModelSpecs(takes, gives, batch=next(iter(fixed), None))


def _reshaped(path: Path, tensor: TensorAxes, shape: Sequence[int | str] | None) -> TensorAxes:
    """The tensor with the extents that the user gives, each for a free dimension or the same number."""
    if shape is None:
        return tensor
    own = tensor.axes[1:]
    if len(own) != len(shape) or any(isinstance(axis, int) and axis != given for axis, given in zip(own, shape)):
        free = [axis if isinstance(axis, int) else "free" for axis in own]
        raise ModelError(f"{path}: shapes says {list(shape)} for {tensor.name}, expected one of {free}")
    return TensorAxes(tensor.name, tensor.dtype, (*tensor.axes[:1], *shape))


def _told(spec: TensorSpec, extents: Mapping[str, int]) -> tuple[int, ...] | None:
    """The shape of an output, where the extents of the inputs' free dimensions tell it."""
    shape: list[int] = []
    for axis in spec.shape:
        extent = extents.get(axis) if isinstance(axis, str) else axis
        if extent is None and (match := _QUOTIENT.fullmatch(str(axis))) and match[1] in extents:
            extent, rest = divmod(extents[match[1]], int(match[2]))
            # How a model rounds is not known.
            extent = None if rest else extent
        if extent is None:
            return None
        shape.append(extent)
    return tuple(shape)


def _shapes_of(inputs: Mapping[str, Array | Sequence[Array]]) -> tuple[tuple[int, ...], ...]:
    return tuple([rows[0].shape for rows in inputs.values()])


def _spec(path: Path, tensor: TensorAxes, max: Mapping[str, int], used: set[str]) -> TensorSpec:
    # A dimension without a name gets one, for a maximum must be sayable: tensor.axis, counted without the batch.
    shape = tuple(f"{tensor.name}.{i}" if axis is None else axis for i, axis in enumerate(tensor.axes[1:]))
    free = {axis for axis in shape if isinstance(axis, str)}
    if missing := [(axis, i) for i, axis in enumerate(shape, 1) if isinstance(axis, str) and axis not in max]:
        raise ModelError(f"{path}: {unbounded(tensor.name, shape, *missing[0])}")
    used |= free
    return TensorSpec(tensor.name, tensor.dtype, shape, {axis: max[axis] for axis in free})


def _chunks(size: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, size)) for start in range(0, size, most))
