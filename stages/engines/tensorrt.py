"""TensorRT on an NVIDIA GPU: plans of fixed batch sizes, several contexts, slots copied straight to the device.

    lane 0   stream | scratch | device buffers | a context and a graph for each batch size
    lane 1   stream | scratch | device buffers | ...
    ...      as many lanes as `contexts`

    slot views ──a copy a row──▶ device batch ──plan──▶ device batch ──a copy a row──▶ slot views   in the lane's stream

A lane computes one batch at a time. Its contexts share one scratch, sized for the largest plan, since only
one of them runs. A batch takes the smallest plan that holds it; what the padded rows give is not copied back.

A launch from Python costs more time of the host than a small network needs on the GPU, so the network is
captured once for each (lane, batch size) as a CUDA graph. The copies stay outside: they begin and end at other
slots each time, and pointing the copies of a graph elsewhere takes as long as enqueueing copies (measured, see
bench/NOTES.md).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shm.view import address_of
from stages.engines import tensorrt_compat as compat
from stages.engines.cuda import CudaError, Device, Graph
from stages.engines.engine import DEFAULTS, NO_SHAPES, Engine, EngineOptions, ModelSpecs, Shapes, model_specs
from stages.engines.plans import Plan, choose_size, fitting_plans, gpu_slug, plans_of
from stages.errors import BadInput, ModelError, StageBroken
from stages.spec import TensorSpec
from stages.stage import Array

__all__ = ["TensorRt"]

_Rows = Mapping[str, Sequence[Array]]
#: A tensor's name, and for each copy: where in the device's batch, address on the host, bytes.
_Copies = tuple[str, list[tuple[int, int, int]]]


class TensorRt(Engine):
    """Runs the plans that `pipeline build` made of an .onnx file, on one GPU, from one thread."""

    device = "cuda"
    can_start = True

    def __init__(
        self, path: Path, max: Mapping[str, int], options: EngineOptions = DEFAULTS, shapes: Shapes = NO_SHAPES
    ) -> None:
        super().__init__(path, max, options, shapes)
        self._device: Device | None = None
        self._plans: list[Plan] = []
        self._sizes: list[int] = []
        self._lanes: list[_Lane] = []
        self._free: list[_Lane] = []
        self._models: dict[int, Any] = {}
        self._version = ""

    @classmethod
    def describe(cls, path: Path, max: Mapping[str, int], shapes: Shapes = NO_SHAPES) -> ModelSpecs:
        plans = plans_of(path.stem)
        if not plans:
            fitting_plans(path, plans, "", "", "auto")
        specs = model_specs(path, plans[-1].inputs, plans[-1].outputs, max, shapes)
        # Batches of any size are padded here.
        return replace(specs, batch=None)

    @property
    def concurrency(self) -> int:
        return self.options.contexts

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
        runtime = trt.Runtime(_logger(trt))
        for plan in self._plans:
            model = runtime.deserialize_cuda_engine(plan.path.read_bytes())
            if model is None:
                raise ModelError(f"{plan.path}: {self._version} on {gpu.name} refuses it; remove it and build it again")
            self._models[plan.batch] = model
        self._runtime = runtime
        tensors = (*self.specs.inputs, *self.specs.outputs)
        self._lanes = [_Lane(trt, gpu, self._models, tensors) for _ in range(self.options.contexts)]
        self._free = list(self._lanes)

    def warm_up(self, sizes: Sequence[int], extents: Sequence[Mapping[str, int]] = ()) -> None:
        """Run every plan once in every lane, and capture the graphs: `sizes` are padded to these."""
        for lane in self._lanes:
            for size in self._sizes:
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
        uploads = [_copies(spec, inputs[spec.name]) for spec in self.specs.inputs]
        downloads = [_copies(spec, outputs[spec.name]) for spec in self.specs.outputs]
        lane = self._free.pop()
        try:
            lane.launch(choose_size(self._sizes, size), uploads, downloads)
        except BaseException:
            self._free.append(lane)
            raise
        lane.rows = (inputs, outputs)
        return lane

    def done(self, token: Any) -> bool:
        lane: _Lane = token
        if not lane.is_over():
            return False
        lane.rows = None
        self._free.append(lane)
        return True

    def _execute(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        size = len(next(iter(inputs.values())))
        made = {
            spec.name: np.empty((size, *spec.max_shape), spec.dtype)
            for spec in self.specs.outputs
            if spec.name not in outputs
        }
        filled = {**outputs, **made}
        for first in range(0, size, self._sizes[-1]):
            rows = slice(first, first + self._sizes[-1])
            lane = self.start(*({name: list(a[rows]) for name, a in side.items()} for side in (inputs, filled)))
            lane.finished.synchronize()
            self.done(lane)
        return made

    @property
    def summary(self) -> str:
        gpu = self._gpu()
        lanes = len(self._lanes)
        largest = self._sizes[-1]
        inputs, outputs = (
            sum(spec.max_nbytes for spec in specs) * largest for specs in (self.specs.inputs, self.specs.outputs)
        )
        scratch = max(compat.scratch_bytes(model) for model in self._models.values())
        free, total = gpu.memory
        graphs = sum(len(lane.graphs) for lane in self._lanes)
        return "\n".join(
            (
                f"{self._version} on {gpu.name} ({gpu.bus_id}): {self.path.name} {self._plans[0].precision}, "
                f"batches of {', '.join(map(str, self._sizes))}",
                f"  contexts        {lanes}, each with a stream of its own; {graphs} CUDA graphs",
                f"  inputs          {_mib(inputs)} a context, {_mib(inputs * lanes)} in all",
                f"  outputs         {_mib(outputs)} a context, {_mib(outputs * lanes)} in all",
                f"  activations     {_mib(scratch)} a context, {_mib(scratch * lanes)} in all",
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
        self._models.clear()
        self._runtime = None
        self._device.close()
        self._device = None

    def _gpu(self) -> Device:
        if self._device is None:
            raise StageBroken(f"{self.path}: used before load, or after close")
        return self._device


class _Lane:
    """What one batch needs to be computed: a stream, memory, and a context for each batch size."""

    def __init__(self, trt: Any, gpu: Device, models: Mapping[int, Any], tensors: Sequence[TensorSpec]) -> None:
        self._gpu = gpu
        self.stream = gpu.stream()
        self._handle = int(self.stream.handle)
        self.finished = gpu.event()
        self.graphs: dict[int, Graph] = {}
        self.rows: Any = None
        """The arrays that are being read and written: kept alive."""
        largest = max(models)
        self._buffers = {
            spec.name: gpu.allocate(spec.max_nbytes * largest, f"{spec.name} in a batch of {largest}")
            for spec in tensors
        }
        needed = max(compat.scratch_bytes(model) for model in models.values())
        scratch = gpu.allocate(needed, "activations")
        self._contexts = {}
        for size, model in models.items():
            context = compat.context_without_scratch(trt, model)
            compat.set_scratch(context, scratch, needed)
            for name, address in self._buffers.items():
                context.set_tensor_address(name, address)
            self._contexts[size] = context

    def enqueue(self, size: int) -> None:
        """Put the network into the stream, without copies."""
        if not self._contexts[size].execute_async_v3(self._handle):
            raise CudaError(f"TensorRT could not enqueue a batch of {size}; its log says why")

    def capture(self, size: int) -> None:
        """Make the graph of a batch size; where TensorRT cannot be captured, there is none."""
        try:
            self.graphs[size] = Graph(self._handle, lambda: self.enqueue(size))
        except CudaError as error:
            print(f"no CUDA graph for batches of {size}, they are enqueued call by call: {error}", file=sys.stderr)

    def launch(self, size: int, uploads: Sequence[_Copies], downloads: Sequence[_Copies]) -> None:
        """Compute one batch; `is_over` tells when."""
        gpu, stream = self._gpu, self._handle
        for name, copies in uploads:
            for offset, address, nbytes in copies:
                gpu.upload(self._buffers[name] + offset, address, nbytes, stream)
        graph = self.graphs.get(size)
        if graph is None:
            self.enqueue(size)
        else:
            graph.launch()
        for name, copies in downloads:
            for offset, address, nbytes in copies:
                gpu.download(address, self._buffers[name] + offset, nbytes, stream)
        self.finished.record(self.stream)

    def is_over(self) -> bool:
        try:
            return bool(self.finished.query())
        except Exception as error:  # pycuda's own, which are known only where it is installed
            raise CudaError(f"{self._gpu.name} failed while it computed: {error}") from error

    def close(self) -> None:
        self.stream.synchronize()
        for graph in self.graphs.values():
            graph.close()
        self.graphs.clear()
        self._contexts.clear()


def _copies(spec: TensorSpec, rows: Sequence[Array]) -> _Copies:
    """The copies of one tensor: one for each stretch of rows that lie side by side."""
    step = spec.max_nbytes
    copies: list[tuple[int, int, int]] = []
    offset = first = end = 0
    for row in rows:
        if row.nbytes != step or not row.flags.c_contiguous:
            raise BadInput(f"{spec.name}: expected {spec}, found {row.dtype.name} {list(row.shape)}")
        address = address_of(row)
        if address != end:
            if end:
                copies.append((offset, first, end - first))
                offset += end - first
            first = address
        end = address + step
    copies.append((offset, first, end - first))
    return spec.name, copies


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.1f} MiB"


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
