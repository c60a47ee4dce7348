"""Infer: the inference stage. One model, run by an engine over whole batches."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages import catalogue
from stages.copies import INPUT, OUTPUT, PADDED, SHAPE_UNKNOWN
from stages.engines import choose_engine, engine_class
from stages.engines.engine import EngineOptions
from stages.engines.signature import ModelSpecs
from stages.errors import BadOption, ModelError
from stages.renaming import renamed
from stages.spec import TensorSpec
from stages.stage import Array, Batch, StageContext

__all__ = ["Infer"]


class Infer:
    """Runs a model. Inputs and outputs are those that the model's file declares, without the batch axis.

    The first axis of an output must have one row for each request of a batch. If it has not, as in [num_dets, 7] of a
    detector, the whole output is the answer to one request, in batches of one: `max: {num_dets: 100}` says so, and how
    large it gets. If its first axis has no name, write `shapes: {boxes: [n, 7]}` with `max: {n: 100}`: as many extents
    as the output has axes. If its first axis is a fixed number that cannot be a batch, or if it has no axis, you
    need not write anything. `pipeline check` shows which outputs are whole. If an output is taken for rows and has
    none, `setup` refuses it.

    Args:
        model: a name of the catalogue, or a file, relative to the config's folder.
        engine: "auto", or the name of one of `stages.engines.ENGINES`.
        max: maximum of each free dimension of the model other than the batch, by its name.
        shapes: shapes of tensors without the batch, {name in the model: [3, 48, W]}, if free dimensions have no proper
            names in the file; numbers instead of names restrict the shapes that the model takes. "W/8" for a
            dimension of an output is an eighth of the inputs' W. If the dimensions of an output follow from the
            inputs, it is written straight into its slot from the first batch on; otherwise from the second batch of
            its shape on. Models of the catalogue have theirs built in.
        pad: {W: 64}: inputs whose W is not a multiple of 64 are filled up with zeros to the next multiple, at most to
            the maximum. That is a copy; in return, rows of about the same shape share a batch.
        warm_up: [{W: 320}, ...]: extents that `setup` runs, beside the maxima: the first batch of a shape
            takes longer than later ones.
        leave_out: outputs of the model that are not needed, by the model's names: they are not computed, and need not
            be tensors of plain numbers, such as the probabilities of a scikit-learn model (a sequence of maps).
        inputs, outputs: other names for the model's tensors: {name in the graph: name in the model}. Tensors that
            are not mentioned keep their names.
        precision: "fp32", "fp16", "int8", or "auto": fp16 if the model was built in it, otherwise fp32. For engines
            that build.
        contexts: batches that may be computed at once, for engines that can.
        cuda_graphs: launch batches as CUDA graphs, for engines that can.
        base_dir: folder to which `model` is relative.

    Raises:
        ModelError: the model is missing, damaged, or cannot be run by the engine.
        BadOption: there is no such engine, tensor or dimension.
    """

    def __init__(
        self,
        model: str,
        engine: str = "auto",
        max: Mapping[str, int] | None = None,
        shapes: Mapping[str, Sequence[int | str]] | None = None,
        pad: Mapping[str, int] | None = None,
        warm_up: Sequence[Mapping[str, int]] = (),
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        leave_out: Sequence[str] = (),
        precision: str = "auto",
        contexts: int = 1,
        cuda_graphs: bool = True,
        base_dir: str | Path = ".",
    ) -> None:
        if precision not in ("auto", "fp32", "fp16", "int8"):
            raise BadOption(f"precision {precision!r}: expected auto, fp32, fp16 or int8")
        if contexts < 1:
            raise BadOption(f"contexts {contexts}: expected at least 1")
        path = catalogue.find(model, Path(base_dir))
        options = EngineOptions(precision, contexts, cuda_graphs)
        known = catalogue.ASSETS.get(model)
        shapes = {**(known.shapes if known else {}), **(shapes or {})}
        if isinstance(leave_out, str):
            raise BadOption(f"leave_out {leave_out!r}: expected a list, such as [{leave_out}]")
        engine, self._missed = choose_engine(path, options) if engine == "auto" else (engine, "")
        self._engine = engine_class(engine)(path, max or {}, options, shapes, leave_out)
        #: The kind of device it runs on, for the placement.
        self.device = self._engine.device
        specs = self._engine.specs
        #: What `pipeline check` prints beside the specs.
        self.notes = tuple(
            f"{path.name}: {why}" for why in (self._missed, self._engine.why_alone) if why
        )
        #: The largest batch that it takes; None: any.
        self.max_batch = 1 if specs.alone else None
        self.inputs, self._inputs = renamed("inputs", specs.inputs, inputs or {})
        self.outputs, self._outputs = renamed("outputs", specs.outputs, outputs or {})
        #: Multiples to which rows are padded: rows that are equal after padding may share a batch.
        self.pad = _checked("pad", pad or {}, specs)
        self._warm_up = [_checked("warm_up", extents, specs, bounded=True) for extents in warm_up]

    @property
    def concurrency(self) -> int:
        """How many batches may be under way at once; perhaps more after the engine has loaded its model."""
        return self._engine.concurrency

    def setup(self, context: StageContext) -> None:
        if context.max_batch > 1 and (why := self._engine.why_alone):
            raise ModelError(f"{self._engine.path}: {why}; found batches of up to {context.max_batch}")
        if self._missed:
            print(f"{self._engine.path.name}: {self._missed}", file=sys.stderr, flush=True)
        self._engine.load(context.threads, context.device, context.max_batch)
        self._engine.warm_up(sorted({1, context.max_batch}), self._warm_up)

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:
        self._engine.attach_memory(buffers)
        if summary := self._engine.summary:
            print(summary, file=sys.stderr, flush=True)

    def start(self, batch: Batch) -> Any:
        inputs = {self._inputs[spec.name]: self._equal_rows(batch, spec) for spec in self.inputs}
        known = self._engine.known_shapes(inputs)
        return self._engine.start(
            inputs,
            {
                name: batch.out_rows(spec.name, known.get(name))
                for spec in self.outputs
                for name in [self._outputs[spec.name]]
            },
        )

    def done(self, token: Any) -> bool:
        return self._engine.done(token)

    def process(self, batch: Batch) -> None:
        if self._engine.can_start:
            token = self.start(batch)
            while not self.done(token):
                pass
            return
        inputs = {self._inputs[spec.name]: self._stacked(batch, spec) for spec in self.inputs}
        known = self._engine.known_shapes(inputs)
        outputs = {}
        for spec in self.outputs:
            name = self._outputs[spec.name]
            if spec.is_static or name in known:
                outputs[name] = batch.stack_out(spec.name, known.get(name), dense=True)
        made = self._engine.run(inputs, outputs)
        if (short := self._engine.filled_up(len(batch))) > 0:
            for spec in self.inputs:
                batch.count_copy(INPUT, spec.name, PADDED, inputs[self._inputs[spec.name]][:short].nbytes)
            for spec in self.outputs:
                if (filled := outputs.get(self._outputs[spec.name])) is not None:
                    batch.count_copy(OUTPUT, spec.name, PADDED, filled[:short].nbytes)
        for spec in self.outputs:
            # If a dimension is free, the first time only the model knows the shape: the output comes by value.
            if (stacked := made.get(self._outputs[spec.name])) is not None:
                batch.stack_out(spec.name, stacked.shape[1:])[...] = stacked
                batch.count_copy(OUTPUT, spec.name, SHAPE_UNKNOWN, stacked.nbytes)

    def _equal_rows(self, batch: Batch, spec: TensorSpec) -> Sequence[Array]:
        """The rows in place; padded rows, if `pad` asks for it, are in memory of their own."""
        rows = batch.rows(spec.name)
        if spec.is_static or all(spec.padded(row.shape, self.pad) == row.shape == rows[0].shape for row in rows):
            return rows
        return list(self._stacked(batch, spec))

    def _stacked(self, batch: Batch, spec: TensorSpec) -> Array:
        """One array of all rows, C-contiguous, padded if `pad` asks for it."""
        rows = batch.rows(spec.name)
        shapes = {spec.padded(row.shape, self.pad) for row in rows}
        if len(shapes) > 1 or shapes == {row.shape for row in rows}:
            return batch.stack(spec.name, dense=True)
        padded = np.zeros((len(rows), *shapes.pop()), rows[0].dtype)
        for into, row in zip(padded, rows):
            into[tuple(map(slice, row.shape))] = row
        batch.count_copy(INPUT, spec.name, PADDED, padded.nbytes)
        return padded

    def teardown(self) -> None:
        self._engine.close()


def _checked(option: str, extents: Mapping[str, int], specs: ModelSpecs, bounded: bool = False) -> dict[str, int]:
    """`extents` by the name of a free dimension of an input: from 1, and `bounded` by its maximum."""
    free = {name: most for spec in specs.inputs for name, most in spec.max.items()}
    for name, value in extents.items():
        if name not in free:
            raise BadOption(f"{option}: the model's inputs have no free dimension {name!r}; they have {sorted(free)}")
        if not 1 <= value <= (free[name] if bounded else value):
            raise BadOption(f"{option}: {name} {value}: expected at least 1" + f", at most {free[name]}" * bounded)
    return dict(extents)
