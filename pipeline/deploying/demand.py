"""Demand: the CPUs, GPUs and memory that the pipeline's container needs for a plan. Pure.

The shared memory is known to the byte. It counts twice: if the scheduler dies, the segments of the next one are made
while those of the dead one are still mapped, by workers and by clients in the app's container. All of it counts in
the pipeline's own container, since the supervisor touches every page when it makes a segment, and the kernel charges a
page to the control group that touches it first (docs/kubernetes.md).

What processes take is estimated from above. Measured with the configs of this repository, as the largest anonymous
memory of a process (VmHWM less files and shared memory) under load:

    scheduler, supervisor, image and text stages       20 to 44 MiB    64 MiB are counted
    open-nsfw, batches of 4 x 588 KiB                     129 MiB      64 + 2 x 22.5 + 32 x 2.3  = 183 MiB
    EfficientNet-Lite0, batches of 4 x 588 KiB            124 MiB      64 + 2 x 17.7 + 32 x 2.3  = 173 MiB
    PP-OCRv4 detection, 1 x 10.5 MiB                      262 MiB      64 + 2 x  4.5 + 32 x 10.5 = 411 MiB
    PP-OCRv4 recognition, 1 x 0.9 MiB                      84 MiB      64 + 2 x 10.4 + 32 x 0.9  = 113 MiB

A model of another kind may need more, and so may a stage of the user's own: `pipeline pod --memory` says it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pipeline.graph.budget import Budget
from pipeline.graph.placement import GPU_CORES
from pipeline.graph.plan import CUDA, Plan, StagePlan, records_of
from pipeline.worker.recorder import RECORD_BYTES
from shm.layout import SegmentLayout

__all__ = [
    "EPOCHS",
    "GPU_WORKER_BYTES",
    "INPUT_FACTOR",
    "PROBES",
    "PROCESS_BYTES",
    "WEIGHT_FACTOR",
    "Demand",
    "demand_of",
]

EPOCHS = 2
"""How many schedulers' segments may be there at once: those of the one that has died, and those of the next."""

PROBES = 2
"""`pipeline status` as a probe: processes that run beside the pipeline's own, at most."""

PROCESS_BYTES = 64 << 20
"""Of a process without a model."""

WEIGHT_FACTOR = 2
"""onnxruntime keeps a model's weights, and for some operators a second copy in another order."""

INPUT_FACTOR = 32
"""What a model keeps between its layers, as a multiple of the inputs of its largest batch."""

GPU_WORKER_BYTES = 1 << 30
"""Of a worker on a GPU, in the host's memory. On an H200, a context of CUDA alone took 21 MiB, and PyTorch with a net
of 20 convolutions over batches of 32 pictures 516 MiB. TensorRT was not measured."""


class Demand(msgspec.Struct, frozen=True):
    """What the pipeline's container needs."""

    cpus: float
    """CPUs that it can keep busy, and no more than there are."""
    gpus: int
    segments: int
    """Bytes of all segments of one scheduler, that of the flight records included."""
    processes: int
    """Processes, with those of two probes."""
    process_bytes: int
    """What they take beside shared memory, at most."""

    @property
    def shared(self) -> int:
        """Bytes of shared memory that may be there at once."""
        return EPOCHS * self.segments


def demand_of(plan: Plan, budget: Budget, cpus: float) -> Demand:
    """What a plan needs.

    Args:
        cpus: those of the machine that it was planned for.
    """
    workers = [worker for stages in plan.processes for worker in plan.stages[stages[0]].workers]
    busy = sum(GPU_CORES if worker.device.startswith(CUDA) else worker.threads for worker in workers)
    processes = len(workers) + 2 + PROBES  # the supervisor and the scheduler
    return Demand(
        cpus=min(cpus, busy + 1),  # the scheduler
        gpus=len({worker.device for worker in workers if worker.device.startswith(CUDA)}),
        segments=budget.nbytes + SegmentLayout.total_bytes(records_of(plan), RECORD_BYTES),
        processes=processes,
        process_bytes=processes * PROCESS_BYTES + sum(_model_bytes(stage, budget.weights) for stage in plan.stages),
    )


def _model_bytes(stage: StagePlan, weights: Mapping[str, int]) -> int:
    """What the model of a stage takes in all its workers; 0 if it has none."""
    on_gpu = sum(worker.device.startswith(CUDA) for worker in stage.workers)
    if stage.name not in weights:
        return on_gpu * GPU_WORKER_BYTES
    batch = stage.batch.max_size * sum(spec.max_nbytes for spec in stage.inputs)
    return len(stage.workers) * (WEIGHT_FACTOR * weights[stage.name] + INPUT_FACTOR * batch)
