"""Plan: everything that `pipeline run` is about to start, as one frozen value.

Made by `pipeline.graph.planning` out of a config, the stages' specs and the topology; read by the
supervisor, the scheduler and the workers, to which it travels as JSON. It never changes while a pipeline runs. Nothing
here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from stages.spec import TensorSpec

__all__ = [
    "CUDA",
    "INGRESS",
    "BatchPlan",
    "CameraPlan",
    "CanaryPlan",
    "CapsulePlan",
    "Edge",
    "Field",
    "MetricsPlan",
    "MqttPlan",
    "Plan",
    "PoolPlan",
    "Post",
    "RecordPlan",
    "StagePlan",
    "TracingPlan",
    "When",
    "WorkerPlan",
    "pool_name",
    "producer_of",
    "records_of",
]

#: The name that stages use for what the client sends: `inputs: [ingress.image]`.
INGRESS = "ingress"

#: What the name of a GPU begins with: cuda:0, cuda:1.
CUDA = "cuda"


class Edge(msgspec.Struct, frozen=True):
    """A tensor, by the stage that makes it. Aliases are resolved: `producer` is the stage that really wrote the
    bytes."""

    producer: str
    """Name of a stage, or INGRESS."""
    tensor: str


class Field(msgspec.Struct, frozen=True):
    """One tensor inside a stage's output slot."""

    spec: TensorSpec
    offset: int
    """Bytes from the start of the slot, a multiple of ALIGNMENT; in slots that are smaller than the stage's largest
    it lies elsewhere (see `pipeline.worker.packing`)."""


class When(msgspec.Struct, frozen=True):
    """The condition of a stage that not every request needs."""

    edge: Edge
    """An output, of one element or several: it holds if any of them is not 0; for JSON, if Python holds it."""
    negated: bool = False


class BatchPlan(msgspec.Struct, frozen=True):
    """How a worker groups the orders that wait in its batcher."""

    max_size: int = 1
    max_delay_ms: float = 0.0
    gather: bool = True
    """Whether rows that do not lie side by side may share a batch, at the price of a copy."""


class WorkerPlan(msgspec.Struct, frozen=True):
    """One process that runs a replica of a stage, or of several that are colocated, and where it sits."""

    process: str
    """The name of the stage; if stages are colocated the names of all of them, `detect+crop`."""
    replica: int
    cpus: tuple[int, ...] = ()
    """CPUs it is bound to; empty if it may run anywhere."""
    numa_node: int | None = None
    threads: int = 1
    device: str = "cpu"
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    why: str = ""
    """Why there are as many of these workers, of as many threads; for a person."""

    @property
    def title(self) -> str:
        """`inference/0`: what `ps` and the log call it."""
        return f"{self.process}/{self.replica}"


class Post(NamedTuple):
    """One worker of a process: the scheduler knows each of several stages that share it by a number of its own."""

    number: int
    """Of the worker; never used twice in a run."""
    stage: int
    """Index of its stage in the plan."""
    record: int
    """Its slot in the recorder segment."""


class StagePlan(msgspec.Struct, frozen=True):
    """One stage, checked against its neighbours."""

    name: str
    use: str
    """`module:Class`, or `./file.py:Class`, relative to the config's folder."""
    options: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    edges: tuple[Edge, ...]
    """Where each of `inputs` comes from, in the same order."""
    after: tuple[str, ...]
    """Stages that must have finished before this one may start, including those of `edges`."""
    outputs: tuple[TensorSpec, ...]
    """All outputs, aliases included."""
    fields: tuple[Field, ...]
    """The outputs that have bytes of their own, inside this stage's slot; empty: it needs no slot."""
    batch: BatchPlan
    credits: int
    """How many requests may be ordered from one worker and not finished, at most."""
    workers: tuple[WorkerPlan, ...]
    timeout_ms: float | None = None
    """A worker that computes one batch for longer is killed; None: it never is."""
    max_restarts: int = 5
    """Deaths without a sign of progress within `restart_window_s`, after which the stage is broken."""
    restart_window_s: float = 60.0
    scope: tuple[str, ...] = ()
    """The stages that fan out on the way to this one, outermost first: it runs once for each child of the last."""
    when: When | None = None
    """It runs only if this holds; otherwise it is skipped, and so are the stages that need its outputs."""
    ragged: bool = False
    """Whether rows whose inputs are of different shapes may share a batch."""
    pad: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Free dimension -> multiple: rows share a batch whose extents are equal once rounded up to it."""
    sources: tuple[str, ...] = ()
    """The stages that `edges` were written with: those that pass a tensor on, not those that made it. Empty: the
    same."""
    host: str = ""
    """The stage in whose workers this one runs too; its own name if it has workers of its own."""

    def touches(self, producer: str) -> bool:
        """Whether it reads or fills the slots of a producer: a stage, or INGRESS."""
        return producer == self.name or any(edge.producer == producer for edge in self.edges)


def pool_name(producer: str, number: int) -> str:
    """The name of one of several pools of a producer.

    Args:
        producer: a stage, or INGRESS.
        number: by rising slot size, from 0.
    """
    return f"{producer}/{number}"


def records_of(plan: Plan) -> int:
    """How many flight records a run has: one for each worker, and as many as one process more may need, which is
    started beside the others to take the place of one."""
    return sum(len(stage.workers) for stage in plan.stages) + max(map(len, plan.processes), default=0)


def producer_of(pool: str) -> str:
    """What fills the slots of the pool of that name: a stage, or INGRESS."""
    return pool.partition("/")[0]

class PoolPlan(msgspec.Struct, frozen=True):
    """One segment of equal slots."""

    name: str
    """The stage whose outputs it holds, or `ingress`; if there are several pools of it, or for `ingress` always,
    with their number by rising slot size: `ingress/0`, `ingress/1`, ... See `pool_name`."""
    slot_bytes: int
    """Bytes from one slot to the next: a multiple of ALIGNMENT."""
    slots: int

    @property
    def producer(self) -> str:
        """What fills its slots: a stage, or INGRESS."""
        return producer_of(self.name)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, without the segment's header."""
        return self.slot_bytes * self.slots


class CanaryPlan(msgspec.Struct, frozen=True):
    """A known good request, sent now and then to see whether every stage still answers."""

    input: str
    """Path of its file."""
    every_s: float = 5.0


class CapsulePlan(msgspec.Struct, frozen=True):
    """Where and how many capsules of requests that killed their worker are kept."""

    folder: str = "capsules"
    max_count: int = 20
    """Older ones are removed; 0: none is written."""
    max_bytes: int = 64 * 1024 * 1024
    """Inputs above this are not kept."""


class MetricsPlan(msgspec.Struct, frozen=True):
    """Where the run answers GET /metrics."""

    port: int
    """0: any that is free."""
    host: str = "127.0.0.1"


class TracingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where traces are exported, and which."""

    sample: float
    """The part of the traces that begin here, 0 to 1; of those of callers their context says it."""
    endpoint: str = ""
    """URL of the collector; empty: as the variables of OpenTelemetry say."""
    protocol: str = ""
    service: str = ""
    headers_file: str = ""
    """Path."""
    queue: int = 8192
    """Spans that may wait for the collector."""
    seed: str = ""
    """Random, of each run: the ids of its spans are made of it (see `pipeline.wire.span_ids`)."""


class RecordPlan(msgspec.Struct, frozen=True):
    """What is recorded of one camera. What the fields mean is in `pipeline.config.recording`."""

    folder: str
    """Absolute, or relative to the config's folder."""
    before_s: float = 5.0
    after_s: float = 10.0
    longest_s: float = 300.0
    rules: tuple[str, ...] = ()
    """Empty: all."""
    keep_s: float = 604_800.0
    most_bytes: int = 10_000_000_000
    ring_bytes: int = 32 << 20


class CameraPlan(msgspec.Struct, frozen=True):
    """One camera, which a source reads. What the fields mean is in `pipeline.config.sources`."""

    name: str
    url: str
    """As it was written: its variables are replaced in the source's process only, so it holds no password."""
    password_file: str = ""
    """Its path, which may be relative to the config's folder; empty: none."""
    fps: float = 0.0
    """0: all frames are wanted."""
    size: tuple[int, ...] = ()
    """(width, height), or empty."""
    drop: Literal["oldest", "never"] = "oldest"
    in_flight: int = 2
    loop: bool = False
    transport: str = "tcp"
    decoder: str = "software"
    decode: Literal["all", "unfiltered", "keys"] = "all"
    timeout_s: float = 10.0
    record: RecordPlan | None = None
    """None: nothing of it is recorded."""


class MqttPlan(msgspec.Struct, frozen=True):
    """The broker to which the cameras are published. What the fields mean is in `pipeline.config.mqtt`."""

    host: str
    port: int = 1883
    user: str = ""
    """Empty: no login."""
    password: str = ""
    """As it was written: `${NAME}`, which is replaced in the source's process only; or empty."""
    password_file: str = ""
    tls: bool = False
    ca: str = ""
    """Empty, though there is TLS: the system's roots."""
    certificate: str = ""
    key: str = ""
    topic: str = "trtlab"
    discovery: str = "homeassistant"
    snapshots: bool = True


class Plan(msgspec.Struct, frozen=True):
    """A whole pipeline."""

    name: str
    config_path: str
    base_dir: str
    """Folder that relative paths of the config are relative to."""
    inputs: tuple[TensorSpec, ...]
    """What one request carries."""
    stages: tuple[StagePlan, ...]
    """In an order in which every stage comes after what it needs."""
    outputs: tuple[tuple[str, Edge], ...]
    """What an answer carries: name -> the tensor."""
    pools: tuple[PoolPlan, ...]
    """Ingress pools first, then the stages' that need slots."""
    segment_kind: str = "posix"
    """"posix", "sysv" or "file"."""
    segment_dir: str = ""
    """The folder of the segments, if they are files."""
    group: int | None = None
    """The group whose members may be clients although they are other users; None: clients are this user's."""
    link: Literal["zmq", "ring"] = "zmq"
    """What carries the messages of requests."""
    spins: bool = False
    """Whether the scheduler and the workers look at their rings for a while before they sleep."""
    drain_s: float = 10.0
    """How long a drain may take before what is unfinished is given up."""
    deadline_ms: float | None = None
    """The deadline of every request that brings none of its own, from its submission."""
    queue_max: int | None = None
    """Requests that may wait for their first worker; one more is refused. None: the ingress slots bound them."""
    canary: CanaryPlan | None = None
    metrics: MetricsPlan | None = None
    tracing: TracingPlan | None = None
    capsules: CapsulePlan = CapsulePlan()
    sources: tuple[str, ...] = ()
    """The stages that `outputs` were written with, as in `StagePlan`."""
    answer_each_child: bool = False
    """Whether every child of a request is answered by itself, as one part of the answer."""
    max_batch_size: int = 0
    """Rows of the largest request that a gateway takes; 0: it shows no batch axis."""
    in_parts: bool = False
    """Whether an answer may come in parts."""
    rows: int = 1
    """How many rows one request may carry in its slots; above 1, each producer has two pools, the second for requests
    of several rows."""
    why_rows: str = ""
    """Why not more; for a person."""
    cameras: tuple[CameraPlan, ...] = ()
    """Those whose frames it takes while no files are run."""
    mqtt: MqttPlan | None = None
    ends_with_cameras: bool = False
    """The run ends once all of its cameras have ended; otherwise it goes on to serve clients."""
    camera_output: str = ""
    """The file to which the sources append the answers, a line of JSON each; empty: to none."""

    def stage(self, name: str) -> StagePlan:
        """The stage of that name.

        Raises:
            KeyError: there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def processes(self) -> tuple[tuple[int, ...], ...]:
        """The stages that share their processes, as indices; alone if a stage has workers of its own."""
        groups: dict[str, list[int]] = {}
        for index, stage in enumerate(self.stages):
            groups.setdefault(stage.host, []).append(index)
        return tuple(tuple(group) for group in groups.values())

    def output_spec(self, edge: Edge) -> TensorSpec:
        """The spec of the tensor that `edge` names."""
        specs = self.inputs if edge.producer == INGRESS else self.stage(edge.producer).outputs
        return next(spec for spec in specs if spec.name == edge.tensor)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots of all pools."""
        return sum(pool.nbytes for pool in self.pools)

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(msgspec.to_builtins(self))
