"""Engine: the contract between the inference stage and a library that runs models.

    describe(path)          specs of the model, quickly and on any machine, even without the device
    load(threads, device)   read the model, claim the device
    warm_up(sizes, extents) run each batch size once, so that the first request need not wait for it
    known_shapes(inputs)    shapes of outputs with free dimensions, if a batch like this one was run before
    run(inputs, outputs)    arrays (n, *shape) in, arrays (n, *shape) out; any number of times
    close()                 free everything

An engine that `can_start` also takes rows in place, and may compute several batches at once:

    attach_memory(buffers)  the shared memory of the slots, for an engine that pins it
    start(inputs, outputs)  begin a batch; each tensor as one array a row, in place
    done(token)             whether the batch is done

An engine sees arrays, never requests or slots. If a model was saved for one batch size,
batches are cut and padded here, so that an implementation runs only what its model takes.

Row r of every output belongs to request r, but a file does not promise that: a first axis may be a number of
detections. So the first extent of every output is compared with the number of rows, in `warm_up` for the smallest and
the largest batch, and after each run. An output that is whole (see `stages.engines.signature`) lies in an array
(1, *shape).
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shm.handle import BFLOAT16
from stages.engines.signature import NO_SHAPES, ModelSpecs, Shapes, quotient
from stages.errors import BadInput, ModelError, SpecMismatch
from stages.spec import TensorSpec
from stages.stage import Array

__all__ = ["DEFAULTS", "Engine", "EngineOptions"]

#: Input shapes for which output shapes are remembered. The bound only prevents ever new shapes from filling memory.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs a model. An engine ignores options that it has no use for, so a config runs anywhere."""

    precision: str = "auto"
    """"fp32", "fp16", "int8", or "auto": fp16 if the model was built in it, otherwise fp32."""
    contexts: int = 1
    """Batches that may be computed at once. An engine may have more under way."""
    cuda_graphs: bool = True
    """Launch a batch as one graph instead of kernel by kernel."""


DEFAULTS = EngineOptions()


class Engine(abc.ABC):
    """One model, run by one library.

    Args:
        path: the model's file.
        max: maximum of each free dimension other than the batch, by its name.
        options: how to run the model.
        shapes: names for free dimensions in place of the file's, which may be missing or meaningless; or numbers,
            which restrict the shapes that the model takes.
        leave_out: outputs that are not needed.

    Raises:
        ModelError: the file is missing, damaged, or has something that this engine cannot run.
    """

    device: ClassVar[str] = "cpu"
    """The kind of device that it runs on: "cpu" or "cuda"."""
    can_start: ClassVar[bool] = False
    """Whether it has `start` and `done`, which take the rows in place."""

    def __init__(
        self,
        path: Path,
        max: Mapping[str, int],
        options: EngineOptions = DEFAULTS,
        shapes: Shapes = NO_SHAPES,
        leave_out: Collection[str] = (),
    ) -> None:
        self.path = path
        self.options = options
        self.specs = self.describe(path, max, shapes, leave_out)
        self._known: dict[tuple[tuple[int, ...], ...], dict[str, tuple[int, ...]]] = {}
        #: Outputs whose length depends on what is found change their shape each time: a guess is useless.
        most = {axis: extent for spec in self.specs.inputs for axis, extent in spec.max.items()}
        self._foreseeable = all(
            spec.is_static or spec.name not in self.specs.whole or _told(spec, most) is not None
            for spec in self.specs.outputs
        )
        #: Set if a batch of several has shown that an output has no row for each request: the message.
        self._misfit = ""
        self._is_warming_up = False

    @classmethod
    @abc.abstractmethod
    def describe(
        cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES, leave_out: Collection[str] = ()
    ) -> ModelSpecs:
        """The model's specs, from the file alone, in far less time than `load` takes."""

    @abc.abstractmethod
    def load(self, threads: int, device: str, max_batch: int = 1) -> None:
        """Prepare for `run`. Called once.

        Args:
            threads: the number of threads that may be busy in `run`.
            device: "cpu" or "cuda:N".
            max_batch: the largest batch that will come.

        Raises:
            ModelError: the model cannot be run there.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free what `load` took. May be called twice."""

    @abc.abstractmethod
    def _execute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """`run` for a batch size that the model takes.

        If an output turns out to have another shape than its memory, the implementation does not write it there but
        raises an exception, of any class.
        """

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: for every input a C-contiguous array (n, *shape).
            outputs: writable C-contiguous arrays (n, *shape) to be filled, for outputs whose shape is known.

        Returns:
            The outputs that are not in `outputs`, in memory of their own; and those whose shape differs from that of
            `known_shapes`, because it follows from more than the inputs' shapes.

        Raises:
            BadInput: the model cannot compute these inputs.
            ModelError: an output has no row for each of these; or the engine failed for a reason other than the inputs.
            SpecMismatch: an output does not fit its spec.
        """
        free = {spec.name for spec in self.specs.outputs if not spec.is_static}
        guessed = free.intersection(outputs)
        try:
            made = self._run(inputs, outputs)
        except (BadInput, ModelError):
            if not outputs:
                raise
            # Run again without memory of an expected shape: this shows the outputs' shapes, and raises the real error.
            made = self._run(inputs, {})
            for name, array in outputs.items():
                if made[name].shape == array.shape:
                    array[...] = made.pop(name)
                elif name in guessed:
                    self._foreseeable = False
                else:
                    raise
        if free and not guessed:
            self._remember(_shapes_of(inputs), {name: made[name].shape[1:] for name in free})
        return made

    def known_shapes(self, inputs: Mapping[str, Array | Sequence[Array]]) -> Mapping[str, tuple[int, ...]]:
        """Shapes (without the batch) of the outputs with free dimensions.

        They follow from the names of their dimensions, if the inputs have dimensions of these names; otherwise from an
        earlier batch of any size whose inputs had the same shapes.

        Args:
            inputs: arrays (n, *shape), or n arrays (*shape) each.

        Returns:
            All of them by name; or none, if they are unknown, or if a batch has shown that the model's output shapes
            follow from more than its inputs' shapes.
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
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[inputs] = outputs

    def filled_up(self, size: int) -> int:
        """How many of `size` rows are copied because the model takes batches of one size and the last is smaller."""
        return size % self.specs.batch if self.specs.batch else 0

    def _run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        size = len(next(iter(inputs.values())))
        if size > 1 and self.specs.alone:
            raise ModelError(f"{self.path}: {self.why_alone}; found a batch of {size}")
        if self._misfit and self.specs.batch is not None:
            # No request can run alone: a batch is filled up, and the number of rows for the filling is unknown.
            raise ModelError(self._misfit)
        step = 1 if self._misfit else self.specs.batch
        if step is None or step == size:
            return self._compute(inputs, outputs)
        parts = [self._run_part(rows, inputs, outputs) for rows in _chunks(size, step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_part(self, rows: slice, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        ins = {name: array[rows] for name, array in inputs.items()}
        outs = {name: array[rows] for name, array in outputs.items()}
        found = rows.stop - rows.start
        if (padding := (self.specs.batch or found) - found) == 0:
            return self._compute(ins, outs)
        padded = {name: np.concatenate([a, np.zeros((padding, *a.shape[1:]), a.dtype)]) for name, a in ins.items()}
        parts = self._compute(padded, {})
        for name, array in outs.items():
            array[...] = parts.pop(name)[:found]
        return {name: array[:found] for name, array in parts.items()}

    def _compute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """`_execute`, and a check of its results."""
        made = self._execute(inputs, outputs)
        size = len(next(iter(inputs.values())))
        for spec in self.specs.outputs:
            array = made.get(spec.name)
            if array is None:
                continue
            if array.shape[:1] != (size,):
                misfit = self.rows_misfit(spec, array.shape, size)
                if size > 1 and not self._misfit:
                    # Another batch could have as many rows as requests by chance, which would not be noticed.
                    self._misfit = misfit
                    if not self._is_warming_up and self.specs.batch is None:
                        print(f"{misfit}; from now on one by one", file=sys.stderr)
                raise ModelError(misfit)
            if (why := spec.misfit(array.dtype.name, array.shape[1:])) is not None:
                raise SpecMismatch(f"{self.path}: output {spec.name!r}: {why}")
        return made

    def rows_misfit(self, spec: TensorSpec, shape: Sequence[int], size: int) -> str:
        """The message that an output has no row for each request of a batch, and what to do about it.

        Args:
            shape: the output's shape, its first axis included.
            size: the size of the batch.
        """
        first = self.specs.first.get(spec.name)
        if isinstance(first, str):
            whole = f"max: {{{first}: ...}}"
        else:
            whole = f"shapes: {{{spec.name}: {['n', *spec.shape]}}}, max: {{n: ...}}".replace("'", "")
        return (
            f"{self.path}: output {spec.name!r} has the shape {list(shape)} for a batch of {size}; expected {size} as "
            f"first extent, one row a request: its first axis is not the batch. If all of it is the answer to one "
            f"request, take batches of one, batch: {{max_size: 1}}, and say how large it gets, with: {{{whole}}}; if "
            f"it is not needed, leave_out: [{spec.name}]"
        )

    @property
    def why_alone(self) -> str:
        """Why batches must be of one; empty if they may be larger."""
        return _why_alone(self.specs)

    @property
    def concurrency(self) -> int:
        """Batches that may be under way at once."""
        return 1

    @property
    def summary(self) -> str:
        """What was loaded, and its size, for the log; may be empty."""
        return ""

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:  # noqa: B027 (not every engine cares)
        """The memory of the rows from now on; memory that was attached before is not used any more."""

    def start(self, inputs: Mapping[str, Sequence[Array]], outputs: Mapping[str, Sequence[Array]]) -> Any:
        """Begin a batch.

        Args:
            inputs: for every input one C-contiguous array (*shape) a row.
            outputs: for every output one writable C-contiguous array (*shape) a row.

        Returns:
            A token for `done`. The arrays must not be touched until `done` has returned True.

        Raises:
            BadInput: the model cannot compute these inputs.
        """
        raise NotImplementedError

    def done(self, token: Any) -> bool:
        """Whether a batch is done. True is returned once.

        Raises:
            StageBroken: the device has failed.
        """
        raise NotImplementedError

    def warm_up(self, sizes: Sequence[int], extents: Sequence[Mapping[str, int]] = ()) -> None:
        """Run zeros of each batch size, free dimensions at their maximum, so that memory is at its peak too.

        If only a run can tell whether an output has a row for each request, the largest batch is run once more with
        other numbers, since zeros may give as many rows by chance.

        Args:
            sizes: the batch sizes, rising.
            extents: extents of free dimensions by name, to be run as well; those not named are at their maximum.

        Raises:
            ModelError: an output has no row for each request of a batch, or zeros cannot be computed.
            SpecMismatch: an output does not fit its spec.
        """
        self._is_warming_up = True
        for given in ({}, *extents):
            shapes = {
                spec.name: tuple(
                    given.get(axis, spec.max[axis]) if isinstance(axis, str) else axis for axis in spec.shape
                )
                for spec in self.specs.inputs
            }
            for size in sizes:
                zeros = {s.name: np.zeros((size, *shapes[s.name]), s.dtype) for s in self.specs.inputs}
                try:
                    self.run(zeros, {})
                except BadInput as error:
                    raise ModelError(f"zeros in a batch of {size}: {error}") from error
        if self.specs.doubtful and sizes[-1] > 1:
            self._run_numbers(sizes[-1])
        self._is_warming_up = False

    def _run_numbers(self, size: int) -> None:
        """Run a batch whose rows differ: numbers from 0 to 1, from a fixed seed; zeros if they are not floats."""
        source = np.random.default_rng(0)
        inputs = {
            spec.name: source.random((size, *spec.max_shape)).astype(spec.dtype)
            if spec.dtype.startswith("float") or spec.dtype == BFLOAT16
            else np.zeros((size, *spec.max_shape), spec.dtype)
            for spec in self.specs.inputs
        }
        try:
            self.run(inputs, {})
        except (BadInput, ModelError, SpecMismatch):
            # The model may refuse meaningless numbers, or give more than for any picture: only the rows matter.
            if self._misfit:
                raise


def _told(spec: TensorSpec, extents: Mapping[str, int]) -> tuple[int, ...] | None:
    """The shape of an output, if it follows from the extents of the inputs' free dimensions."""
    shape: list[int] = []
    for axis in spec.shape:
        extent = extents.get(axis) if isinstance(axis, str) else axis
        if extent is None and (of := quotient(axis)) and of[0] in extents:
            extent, rest = divmod(extents[of[0]], of[1])
            # It is unknown how the model rounds.
            extent = None if rest else extent
        if extent is None:
            return None
        shape.append(extent)
    return tuple(shape)


def _shapes_of(inputs: Mapping[str, Array | Sequence[Array]]) -> tuple[tuple[int, ...], ...]:
    return tuple([rows[0].shape for rows in inputs.values()])


def _chunks(size: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, size)) for start in range(0, size, most))


def _why_alone(specs: ModelSpecs) -> str:
    if not specs.alone:
        return ""
    names = ", ".join(specs.alone)
    if specs.whole:
        return f"output {names}: no row for each request of a batch, so batches are of one and all of it is the answer"
    return f"output {names}: one row for a whole batch, so batches are of one"
