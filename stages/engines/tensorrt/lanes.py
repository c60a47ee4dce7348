"""Lanes: what the batches of a TensorRT engine are computed in, one batch at a time in each.

    lane 0   stream | device batches | a context and a graph for each batch size ──┐
    lane N   stream | device batches | a context and a graph for each batch size ──┴─ scratch 0
    lane 1   stream | device batches | a context and a graph for each batch size ──── scratch 1
    ...                                                                               ...  as many as `contexts`

Contexts take turns in a scratch, which is sized for the largest plan: one batch is computed in it at a time. One lane
more than there are scratches keeps them busy: while one batch is computed, the next one's rows are on their way.

    lane 0   upload A ─▶ compute A ─▶ download A
    lane N   upload B ┄┄┄┄┄┄┄┄┄┄┄┄┄┄▶ compute B ─▶ download B     B waits for A to be computed, and for nothing else

Rows are copied between their slots and the device. Enqueueing a copy takes the host 6 us, whatever its size (H100), and
copying a small row itself less than one. So small rows that lie in many pieces go through pinned memory of the lane:

    slots |r2|....|r0|..|r1|   ──host──▶   |r0|r1|r2|   ──one copy──▶   device, and back the same way

Called from one thread. Only `close` waits for the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from shm.view import rows_of
from stages.engines.cuda import CudaError, Device, Graph
from stages.engines.tensorrt import compat
from stages.engines.transfers import Transfer
from stages.errors import BadInput
from stages.spec import TensorSpec
from stages.stage import Array

if TYPE_CHECKING:
    import tensorrt

__all__ = ["ROWS_FOR_A_COPY", "SMALL_ROW", "Copies", "Lane", "Scratch"]

SMALL_ROW = 4096
"""The host itself copies rows of at most this many bytes."""

ROWS_FOR_A_COPY = 4
"""How many small rows the host copies in less time than it takes to enqueue one copy."""


class Copies(NamedTuple):
    """One tensor of a batch."""

    name: str
    rows: Sequence[Array]
    transfers: Sequence[Transfer]
    """The copies, if each row is copied by itself."""


class Scratch:
    """Memory that one batch at a time is computed in."""

    def __init__(self, gpu: Device, nbytes: int) -> None:
        self.nbytes = nbytes
        self.address = gpu.allocate(nbytes, "activations")
        #: Lanes that compute in it.
        self.lanes = 0
        #: Batches that are in those lanes.
        self.batches = 0
        #: The last batch is computed; recorded if there are several lanes.
        self.computed = gpu.event()


class Lane:
    """A stream, memory for the largest batch, and for each batch size a context and perhaps a graph."""

    def __init__(
        self,
        trt: Any,
        gpu: Device,
        scratch: Scratch,
        models: Mapping[int, tensorrt.ICudaEngine],
        tensors: Sequence[TensorSpec],
    ) -> None:
        self._dims: type[tensorrt.Dims] = trt.Dims
        self._gpu = gpu
        self._models = models  # for as long as its contexts
        self.scratch = scratch
        scratch.lanes += 1
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
        #: Pinned memory for the rows of small tensors, by name: its address, and the rows.
        self._staging: dict[str, tuple[int, list[Array]]] = {}
        for spec in tensors:
            if not spec.is_static or not 0 < spec.max_nbytes <= SMALL_ROW:
                continue
            memory = gpu.allocate_pinned(spec.max_nbytes * largest)
            if memory is not None:
                batch = memory[: spec.max_nbytes * largest].view(spec.dtype).reshape(largest, *spec.max_shape)
                self._staging[spec.name] = memory.ctypes.data, rows_of(batch)
        #: What the worker copies from there when the batch is over: (rows of the slots, rows there).
        self._arriving: list[tuple[Sequence[Array], Sequence[Array]]] = []
        # Each has its own, though they take turns: a graph is valid only as long as the context that it was captured
        # from is not pointed elsewhere.
        self._contexts: dict[int, tensorrt.IExecutionContext] = {}
        for size, model in models.items():
            self._contexts[size] = context = compat.context_without_scratch(trt, model)
            compat.set_scratch(context, scratch.address, scratch.nbytes)
            for name, address in self._buffers.items():
                context.set_tensor_address(name, address)

    def enqueue(self, size: int) -> None:
        """Put the network into the stream, without copies."""
        if not self._contexts[size].execute_async_v3(self._handle):
            raise CudaError(f"TensorRT could not enqueue a batch of {size}; its log says why")

    def set_shapes(self, size: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Tell the context of a batch size the shapes of its next rows.

        Raises:
            BadInput: the plan does not take them.
        """
        for name, shape in shapes.items():
            if not self._contexts[size].set_input_shape(name, self._dims([size, *shape])):
                raise BadInput(f"{name}: the plan for batches of {size} does not take the shape {list(shape)}")

    def shape_of(self, size: int, name: str) -> tuple[int, ...]:
        """The shape of an output, first axis included, for the shapes that were set last."""
        return compat.extents_of(self._contexts[size].get_tensor_shape(name))

    def capture(self, size: int) -> None:
        """Make the graph of a batch size; if TensorRT cannot be captured, there is none."""
        try:
            self.graphs[size] = Graph(self._handle, lambda: self.enqueue(size))
        except CudaError as error:
            print(f"no CUDA graph for batches of {size}, they are enqueued call by call: {error}", file=sys.stderr)

    def launch(
        self,
        size: int,
        uploads: Sequence[Copies],
        downloads: Sequence[Copies],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Compute one batch; `is_over` tells when.

        Args:
            size: of the plan.
            uploads, downloads: copies of the inputs and of the outputs.
            shapes: of the inputs' rows, if they are free.

        Raises:
            BadInput: the plan does not take the shapes. Nothing was begun.
            CudaError: something was begun and may go on: the process must not be used any more.
        """
        if shapes is not None:
            self.set_shapes(size, shapes)
        try:
            self._launch(size, uploads, downloads)
        except CudaError:
            raise
        except Exception as error:  # pycuda's own, which are known only if it is installed
            raise CudaError(f"{self._gpu.name} failed while a batch was started: {error}") from error

    def _launch(self, size: int, uploads: Sequence[Copies], downloads: Sequence[Copies]) -> None:
        gpu, stream, scratch = self._gpu, self._handle, self.scratch
        self._arriving.clear()
        for name, slots, transfers in uploads:
            buffer = self._buffers[name]
            if _is_slower(slots, transfers) and name in self._staging:
                start, staged = self._staging[name]
                for row, slot in zip(staged, slots):
                    row[...] = slot
                gpu.upload(buffer, start, staged[0].nbytes * len(slots), stream)
                continue
            for offset, address, nbytes, pitch, rows in transfers:
                if rows == 1:
                    gpu.upload(buffer + offset, address, nbytes, stream)
                else:
                    gpu.upload_rows(buffer + offset, address, nbytes, pitch, rows, stream)
        is_shared = scratch.lanes > 1
        if is_shared:
            # For the other lane's batch to be computed. Not recorded yet: then there is nothing to wait for.
            self.stream.wait_for_event(scratch.computed)
        graph = self.graphs.get(size)
        if graph is None:
            self.enqueue(size)
        else:
            graph.launch()
        if is_shared:
            # Before the downloads: the other lane need not wait for those.
            scratch.computed.record(self.stream)
        for name, slots, transfers in downloads:
            buffer = self._buffers[name]
            if _is_slower(slots, transfers) and name in self._staging:
                start, staged = self._staging[name]
                gpu.download(start, buffer, staged[0].nbytes * len(slots), stream)
                self._arriving.append((slots, staged))
                continue
            for offset, address, nbytes, pitch, rows in transfers:
                if rows == 1:
                    gpu.download(address, buffer + offset, nbytes, stream)
                else:
                    gpu.download_rows(address, buffer + offset, nbytes, pitch, rows, stream)
        self.finished.record(self.stream)

    def is_over(self) -> bool:
        """Whether what was launched is over; then its results are where they belong."""
        try:
            if not self.finished.query():
                return False
        except Exception as error:  # pycuda's own, which are known only if it is installed
            raise CudaError(f"{self._gpu.name} failed while it computed: {error}") from error
        for slots, staged in self._arriving:
            for slot, row in zip(slots, staged):
                slot[...] = row
        self._arriving.clear()
        return True

    def close(self) -> None:
        """Wait for what is under way, and let go of graphs and contexts."""
        self.stream.synchronize()
        for graph in self.graphs.values():
            graph.close()
        self.graphs.clear()
        self._contexts.clear()


def _is_slower(rows: Sequence[Array], transfers: Sequence[Transfer]) -> bool:
    """Whether enqueueing so many copies takes longer than to copy the rows, if they are small, and enqueue one."""
    return len(rows) <= ROWS_FOR_A_COPY * (len(transfers) - 1)
