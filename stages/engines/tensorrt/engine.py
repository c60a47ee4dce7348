"""TensorRT on an NVIDIA GPU: plans of fixed batch sizes, several contexts, fed from the slots.

    slot views ──few copies──▶ device batch ──plan──▶ device batch ──few copies──▶ slot views

Each batch goes through a lane (see `stages.engines.tensorrt.lanes`). It takes the smallest plan that holds it; the
outputs of padded rows are not copied back.

A launch from Python costs more time of the host than a small network needs on the GPU, so the network is
captured once for each lane and batch size as a CUDA graph. The copies stay outside: they begin and end at other
slots each time, and pointing the copies of a graph elsewhere takes as long as enqueueing copies (measured, see
bench/NOTES.md).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shm.handle import itemsize
from shm.view import place_of, rows_of
from stages.engines.cuda import CudaError, Device
from stages.engines.engine import (
    DEFAULTS,
    Engine,
    EngineOptions,
)
from stages.engines.plans import EnginePlan, choose_size, fitting_plans, gpu_slug, own_plans, plans_of
from stages.engines.signature import NO_SHAPES, ModelSpecs, Shapes, model_specs
from stages.engines.tensorrt import compat
from stages.engines.tensorrt.lanes import Copies, Lane, Scratch
from stages.engines.transfers import transfers_of
from stages.errors import BadInput, ModelError, SpecMismatch, StageBroken
from stages.spec import TensorSpec
from stages.stage import Array

if TYPE_CHECKING:
    import tensorrt

__all__ = ["TensorRt"]

_Rows = Mapping[str, Sequence[Array]]


class TensorRt(Engine):
    """Runs the plans that `pipeline build` made of an .onnx file, on one GPU, from one thread."""

    device = "cuda"
    can_start = True

    def __init__(
        self,
        path: Path,
        max: Mapping[str, int],
        options: EngineOptions = DEFAULTS,
        shapes: Shapes = NO_SHAPES,
        leave_out: Collection[str] = (),
    ) -> None:
        super().__init__(path, max, options, shapes, leave_out)
        plans = own_plans(path)
        #: Every tensor of the plans: those that are left out are computed all the same, and need room on the device.
        self._tensors = (*self.specs.inputs, *self.specs.outputs, *_left_out(path, plans[-1], self.specs, max))
        self._device: Device | None = None
        self._plans: list[EnginePlan] = []
        self._sizes: list[int] = []
        self._scratches: list[Scratch] = []
        self._lanes: list[Lane] = []
        self._free: list[Lane] = []
        self._models: dict[int, tensorrt.ICudaEngine] = {}
        self._runtime: tensorrt.Runtime | None = None
        self._version = ""
        #: Dimensions other than the batch are free: contexts are told the shapes of each batch. Until it is known which
        #: plans are loaded, if they are free in any.
        self._is_free = any(plan.profiles for plan in plans)

    @classmethod
    def describe(
        cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES, leave_out: Collection[str] = ()
    ) -> ModelSpecs:
        plans = own_plans(path)
        if not plans:
            fitting_plans(path, plans_of(path.stem), "", "", "auto")
        specs = model_specs(path, plans[-1].inputs, plans[-1].outputs, max, shapes, leave_out)
        _check_ranges(path, plans[-1], specs)
        # Batches of any size are padded here.
        return replace(specs, batch=None)

    @property
    def concurrency(self) -> int:
        # If shapes are free, those of a batch are asked for before its turn, from a context that computes nothing.
        return self.options.contexts + (not self._is_free)

    def load(self, threads: int, device: str, max_batch: int = 1) -> None:
        if not device.startswith("cuda:"):
            raise ModelError(f"engine tensorrt runs on a GPU, and this replica was placed on {device}")
        trt = compat.load_library()
        self._version = compat.spell_version(trt)
        self._device = gpu = Device(int(device.removeprefix("cuda:")))
        plans = fitting_plans(
            self.path, plans_of(self.path.stem), gpu_slug(gpu.name), self._version, self.options.precision
        )
        if plans[-1].batch < max_batch:
            raise ModelError(
                f"{self.path}: batches of up to {max_batch} were asked for, its plans are for "
                f"{', '.join(str(plan.batch) for plan in plans)}; "
                f"run here: pipeline build {self.path} --batch {max_batch}"
            )
        largest = choose_size([plan.batch for plan in plans], max_batch)
        self._plans = [plan for plan in plans if plan.batch <= largest]
        self._sizes = [plan.batch for plan in self._plans]
        for plan in self._plans:
            _check_ranges(self.path, plan, self.specs)
            self._check_rows(plan)
        runtime: tensorrt.Runtime = trt.Runtime(_logger(trt))
        self._models = {plan.batch: self._deserialize(runtime, plan) for plan in self._plans}
        self._is_free = any(plan.profiles for plan in self._plans)
        self._runtime = runtime
        needed = max(compat.scratch_bytes(model) for model in self._models.values())
        self._scratches = [Scratch(gpu, needed) for _ in range(self.options.contexts)]
        for number in range(self.concurrency):
            models = self._models
            if number and self._is_free and not compat.shares_profiles(trt):
                models = {plan.batch: self._deserialize(runtime, plan) for plan in self._plans}
            scratch = self._scratches[number % len(self._scratches)]
            self._lanes.append(Lane(trt, gpu, scratch, models, self._tensors))
        self._free = list(self._lanes)

    def _check_rows(self, plan: EnginePlan) -> None:
        """Refuse a plan in which an output has no row for each request."""
        declared = {tensor.name: tensor.axes for tensor in plan.outputs}
        for spec in self.specs.outputs:
            axes = declared[spec.name]
            if spec.name not in self.specs.whole and axes[:1] != (plan.batch,):
                shape = [axis if isinstance(axis, int) else -1 for axis in axes]
                raise ModelError(self.rows_misfit(spec, shape, plan.batch))

    def _deserialize(self, runtime: tensorrt.Runtime, plan: EnginePlan) -> tensorrt.ICudaEngine:
        model: tensorrt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan.path.read_bytes())
        if model is None:
            name = self._gpu().name
            raise ModelError(f"{plan.path}: {self._version} on {name} refuses it; remove it and build it again")
        return model

    def warm_up(self, sizes: Sequence[int], extents: Sequence[Mapping[str, int]] = ()) -> None:
        """Run every plan once in every lane, and capture the graphs: `sizes` are padded to these.

        If dimensions are free there are no graphs: a graph is of one shape.
        """
        for lane in self._lanes:
            for size in self._sizes:
                if self._is_free:
                    for given in ({}, *extents):
                        lane.set_shapes(size, {spec.name: _at(spec, given) for spec in self.specs.inputs})
                        lane.enqueue(size)
                        lane.stream.synchronize()
                    continue
                # TensorRT sets things up in a context's first run that must not be captured.
                lane.enqueue(size)
                lane.stream.synchronize()
                if self.options.cuda_graphs:
                    lane.capture(size)

    def attach_memory(self, buffers: Sequence[memoryview]) -> None:
        gpu = self._gpu()
        for lane in self._lanes:
            lane.stream.synchronize()
        gpu.unregister_all()
        try:
            for buffer in buffers:
                gpu.register(buffer)
        except CudaError as error:
            print(f"shared memory stays unpinned, copies take longer: {error}", file=sys.stderr)

    def start(self, inputs: _Rows, outputs: _Rows) -> Any:
        size = len(next(iter(inputs.values())))
        if size > self._sizes[-1]:
            raise StageBroken(f"{self.path}: a batch of {size} came, and plans were loaded for {self._sizes}")
        takes = {spec.name: inputs[spec.name][0].shape for spec in self.specs.inputs}
        gives = self.known_shapes(inputs)
        uploads = [_copies(spec, takes[spec.name], inputs[spec.name]) for spec in self.specs.inputs]
        downloads = [
            _copies(spec, gives.get(spec.name, spec.max_shape), outputs[spec.name]) for spec in self.specs.outputs
        ]
        # A lane in whose scratch no batch is computed, if there is one.
        lane = min(self._free, key=_batches)
        lane.launch(choose_size(self._sizes, size), uploads, downloads, takes if self._is_free else None)
        self._free.remove(lane)
        lane.scratch.batches += 1
        lane.rows = (inputs, outputs)
        return lane

    def known_shapes(self, inputs: Mapping[str, Array | Sequence[Array]]) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the outputs with free dimensions: TensorRT tells them before it computes.

        Args:
            inputs: rows (*shape), equal in shape.

        Raises:
            BadInput: the plans do not take these shapes.
            SpecMismatch: an output would be larger than its maximum.
            ModelError: an output has no row for each request of a batch.
        """
        if not self._is_free:
            return {}
        takes = {spec.name: inputs[spec.name][0].shape for spec in self.specs.inputs}
        key = tuple(takes.values())
        if (found := self._known.get(key)) is None:
            for spec in self.specs.inputs:
                if misfit := spec.misfit(spec.dtype, takes[spec.name]):
                    raise BadInput(f"{spec.name}: {misfit}")
            # One that computes nothing: a shape must not be changed while its context runs.
            lane = self._free[-1]
            lane.set_shapes(self._sizes[-1], takes)
            found = {}
            for spec in self.specs.outputs:
                shape = lane.shape_of(self._sizes[-1], spec.name)
                if spec.name not in self.specs.whole:
                    if shape[:1] != (self._sizes[-1],):
                        raise ModelError(self.rows_misfit(spec, shape, self._sizes[-1]))
                    shape = shape[1:]
                if misfit := spec.misfit(spec.dtype, shape):
                    raise SpecMismatch(f"output {spec.name!r} of {self.path.name}: {misfit}")
                found[spec.name] = shape
            self._remember(key, found)
        return found

    def done(self, token: Any) -> bool:
        lane: Lane = token
        if not lane.is_over():
            return False
        lane.rows = None
        lane.scratch.batches -= 1
        self._free.append(lane)
        return True

    def _execute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        size = len(next(iter(inputs.values())))
        known = self.known_shapes(inputs)
        made = {
            spec.name: np.empty((size, *known.get(spec.name, spec.max_shape)), spec.dtype)
            for spec in self.specs.outputs
            if spec.name not in outputs
        }
        filled = {**outputs, **made}
        for first in range(0, size, self._sizes[-1]):
            rows = slice(first, first + self._sizes[-1])
            lane = self.start(*({name: rows_of(a[rows]) for name, a in side.items()} for side in (inputs, filled)))
            lane.finished.synchronize()
            self.done(lane)
        return made

    @property
    def summary(self) -> str:
        gpu = self._gpu()
        contexts, lanes = len(self._scratches), len(self._lanes)
        largest = self._sizes[-1]
        inputs, outputs = (
            sum(spec.max_nbytes for spec in specs) * largest for specs in (self.specs.inputs, self.specs.outputs)
        )
        scratch = self._scratches[0].nbytes
        free, total = gpu.memory
        graphs = sum(len(lane.graphs) for lane in self._lanes)
        return "\n".join(
            (
                f"{self._version} on {gpu.name} ({gpu.bus_id}): {self.path.name} {self._plans[0].precision}, "
                f"batches of {', '.join(map(str, self._sizes))}",
                f"  contexts        {contexts}, and {lanes} batches under way, each in a stream; {graphs} CUDA graphs",
                f"  inputs          {_mib(inputs)} a batch, {_mib(inputs * lanes)} in all",
                f"  outputs         {_mib(outputs)} a batch, {_mib(outputs * lanes)} in all",
                f"  activations     {_mib(scratch)} a context, {_mib(scratch * contexts)} in all",
                f"  weights         {_mib(sum(plan.nbytes for plan in self._plans))} of plans",
                f"  host memory     {_mib(gpu.registered_bytes)} of slots pinned",
                f"  device memory   {_mib(total - free)} used of {_mib(total)}",
            )
        )

    def close(self) -> None:
        if self._device is None:
            return
        # Contexts go before their engines, and all of TensorRT before the device.
        for lane in self._lanes:
            lane.close()
        self._free.clear()
        self._lanes.clear()
        self._scratches.clear()
        self._models.clear()
        self._runtime = None
        self._device.close()
        self._device = None

    def _gpu(self) -> Device:
        if self._device is None:
            raise StageBroken(f"{self.path}: used before load, or after close")
        return self._device


def _batches(lane: Lane) -> int:
    return lane.scratch.batches


def _at(spec: TensorSpec, extents: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with free dimensions at these extents, or at their maxima."""
    return tuple(extents.get(axis, spec.max[axis]) if isinstance(axis, str) else axis for axis in spec.shape)


def _copies(spec: TensorSpec, shape: tuple[int, ...], rows: Sequence[Array]) -> Copies:
    """The copies of one tensor, whose rows have `shape` each."""
    step = itemsize(spec.dtype) * math.prod(shape)
    for row in rows:
        if row.shape != shape or row.nbytes != step or not row.flags.c_contiguous:
            found = f"{row.dtype.name} {list(row.shape)}"
            raise SpecMismatch(f"{spec.name}: expected {spec.dtype} {list(shape)} without gaps, found {found}")
    # If an extent is 0 there is nothing to copy.
    return Copies(spec.name, rows, transfers_of(map(place_of, rows), step) if step else [])


def _left_out(path: Path, plan: EnginePlan, specs: ModelSpecs, max: Mapping[str, int]) -> Iterator[TensorSpec]:
    """The outputs of a plan that the stage does not want, each as large for a row as it can get."""
    known = dict(max)
    for spec in specs.inputs:
        known.update(spec.max)
    wanted = {spec.name for spec in specs.outputs}
    for tensor in plan.outputs:
        if tensor.name in wanted:
            continue
        axes = tensor.axes[1:] if tensor.axes[:1] == (plan.batch,) else tensor.axes
        if free := [axis for axis in axes if not isinstance(axis, int) and axis not in known]:
            raise ModelError(
                f"{path}: output {tensor.name}{list(tensor.axes)} cannot be left out of a plan: TensorRT computes it, "
                f"and how large its {free[0]!r} gets is not known; take it out of the .onnx file and build that"
            )
        yield TensorSpec(tensor.name, tensor.dtype, tuple(a if isinstance(a, int) else known[str(a)] for a in axes))


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.1f} MiB"


def _check_ranges(path: Path, plan: EnginePlan, specs: ModelSpecs) -> None:
    """Refuse shapes that may come and that the plan does not take."""
    for profile in plan.profiles:
        spec = next(spec for spec in specs.inputs if spec.name == profile.name)
        for axis, most, low, high in zip(spec.shape, spec.max_shape, profile.min[1:], profile.max[1:]):
            if not low <= most <= high:
                raise ModelError(
                    f"{path}: its plans take {low} to {high} for {axis!r} of {spec.name}, and up to {most} may come; "
                    f"build them again with a larger --range"
                )


_loggers: list[Any] = []


def _logger(trt: Any) -> Any:
    """TensorRT's log goes where the worker's goes. There is one a process: its first one stays."""
    if not _loggers:
        severity = trt.ILogger.Severity
        shown = (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING)

        class Log(trt.ILogger):  # type: ignore[misc]
            def log(self, severity: Any, message: str) -> None:
                if severity in shown:
                    print(f"TensorRT: {message}", file=sys.stderr)

            def __init__(self) -> None:
                trt.ILogger.__init__(self)

        _loggers.append(Log())
    return _loggers[0]
