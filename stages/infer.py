"""Infer: the inference stage. One model, run by an engine over whole batches."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import catalogue
from stages.copies import OUTPUT, SHAPE_UNKNOWN
from stages.engines import engine_class
from stages.engines.engine import EngineOptions
from stages.errors import BadOption
from stages.spec import TensorSpec
from stages.stage import Batch, StageContext

__all__ = ["Infer"]


class Infer:
    """Runs a model. Inputs and outputs are the model's own, as its file declares them, without the batch axis.

    Args:
        model: a name of the catalogue, or a file, relative to the config's folder.
        engine: "auto", or the name of one of `stages.engines.ENGINES`.
        max: maximum of each free dimension of the model other than the batch, by its name.
        inputs, outputs: other names for the model's tensors: {name in the graph: name in the model}. Those that
            are not mentioned keep theirs.
        precision: "fp32", "fp16", or "auto": the fastest that the model was built in. For engines that build.
        contexts: batches that may be computed at once, for engines that can.
        cuda_graphs: launch batches as CUDA graphs, for engines that can.
        base_dir: folder that `model` is relative to.

    Raises:
        ModelError: the model is missing, damaged, or cannot be run by the engine.
        BadOption: there is no such engine or no such tensor.
    """

    def __init__(
        self,
        model: str,
        engine: str = "auto",
        max: Mapping[str, int] | None = None,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        precision: str = "auto",
        contexts: int = 1,
        cuda_graphs: bool = True,
        base_dir: str | Path = ".",
    ) -> None:
        if precision not in ("auto", "fp32", "fp16"):
            raise BadOption(f"precision {precision!r}: expected auto, fp32 or fp16")
        if contexts < 1:
            raise BadOption(f"contexts {contexts}: expected at least 1")
        path = catalogue.find(model, Path(base_dir))
        options = EngineOptions(precision, contexts, cuda_graphs)
        self._engine = engine_class(engine, path, options)(path, max or {}, options)
        #: What kind of device it runs on, and how many batches at once: the placement asks.
        self.device = self._engine.device
        self.concurrency = self._engine.concurrency
        specs = self._engine.specs
        self.inputs, self._inputs = _renamed("inputs", specs.inputs, inputs or {})
        self.outputs, self._outputs = _renamed("outputs", specs.outputs, outputs or {})

    def setup(self, context: StageContext) -> None:
        self._engine.load(context.threads, context.device, context.max_batch)
        self._engine.warm_up(sorted({1, context.max_batch}))

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:
        self._engine.attach_memory(buffers)
        if summary := self._engine.summary:
            print(summary, file=sys.stderr, flush=True)

    def start(self, batch: Batch) -> Any:
        return self._engine.start(
            {self._inputs[spec.name]: batch.rows(spec.name) for spec in self.inputs},
            {
                self._outputs[spec.name]: [batch.out(row, spec.name) for row in range(len(batch))]
                for spec in self.outputs
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
        inputs = {self._inputs[spec.name]: batch.stack(spec.name, dense=True) for spec in self.inputs}
        # Where a dimension is free, only the model knows the shape: those come back by value.
        outputs = {
            self._outputs[spec.name]: batch.stack_out(spec.name, dense=True) for spec in self.outputs if spec.is_static
        }
        made = self._engine.run(inputs, outputs)
        for spec in self.outputs:
            if not spec.is_static:
                stacked = made[self._outputs[spec.name]]
                batch.stack_out(spec.name, stacked.shape[1:])[...] = stacked
                batch.count_copy(OUTPUT, spec.name, SHAPE_UNKNOWN, stacked.nbytes)

    def teardown(self) -> None:
        self._engine.close()


def _renamed(
    option: str, specs: tuple[TensorSpec, ...], names: Mapping[str, str]
) -> tuple[tuple[TensorSpec, ...], dict[str, str]]:
    """The specs under their names in the graph, and the way back to the model's names."""
    own = [spec.name for spec in specs]
    for wanted in names.values():
        if wanted not in own:
            raise BadOption(f"{option}: the model has no {wanted!r}; it has {', '.join(own)}")
    back = {name: wanted for wanted, name in names.items()}
    renamed = tuple(replace(spec, name=back.get(spec.name, spec.name)) for spec in specs)
    return renamed, {new.name: old.name for new, old in zip(renamed, specs)}
