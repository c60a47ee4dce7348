"""The form of a pipeline's YAML, as pydantic models: every field, its type, its default, its meaning.

`pipeline schema` prints it for editors; `pipeline.config.loader` fills it. Values are taken as they
are written: a text is never read as a number, nor a number as a text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from pipeline.config.exporter import MetricsConfig
from pipeline.config.mqtt import MqttConfig, MqttTlsConfig
from pipeline.config.node import ByteCount, Node, PlainText, is_plain_text
from pipeline.config.recording import RecordConfig
from pipeline.config.serving import ServeConfig
from pipeline.config.sources import SourceConfig
from pipeline.config.tls import TlsConfig
from pipeline.config.tracing import TracingConfig

__all__ = [
    "ANCHORS",
    "AUTO",
    "BatchConfig",
    "CanaryConfig",
    "CapsulesConfig",
    "IngressConfig",
    "InputConfig",
    "MetricsConfig",
    "MqttConfig",
    "MqttTlsConfig",
    "PipelineConfig",
    "QueueConfig",
    "RestartConfig",
    "RunConfig",
    "SegmentsConfig",
    "ServeConfig",
    "SourceConfig",
    "StageConfig",
    "TlsConfig",
    "TracingConfig",
    "as_references",
    "hosts_of",
]

#: Top-level keys that begin with this hold only anchors for other keys.
ANCHORS = "x-"
AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]


def _count_or_auto(most: int) -> PlainValidator:
    """A validator that accepts a whole number from 1 to `most`, or the word auto."""

    def validate(value: object) -> int | str:
        if value == AUTO:
            return AUTO
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        raise ValueError(f"expected a whole number from 1 to {most}, or auto")

    return PlainValidator(validate)


def _name(pattern: str, expected: str) -> Callable[[str], str]:
    def validate(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return validate


def _extent(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isidentifier():
        return value
    raise ValueError("expected a number of at least 0, or the name of a free dimension such as H")


def _cpu_list(value: object) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return str(value)
    raise ValueError('expected auto, or a list of CPUs such as "0-3,8"')


def _reference(value: str) -> str:
    producer, dot, tensor = value.partition(".")
    if not (producer and dot and tensor):
        raise ValueError("expected producer.tensor, such as ingress.image")
    return value


def _condition(value: str) -> str:
    _reference(value.removeprefix("not ").strip())
    return value


#: Tags of a union appear in pydantic's error paths; these cannot be keys of a document.
LIST_TAG, MAPPING_TAG, WORD_TAG = "<list>", "<mapping>", "<word>"


def _list_or_mapping(value: object) -> str | None:
    return LIST_TAG if isinstance(value, list | tuple) else MAPPING_TAG if isinstance(value, dict) else None


def _word_or_mapping(value: object) -> str:
    return MAPPING_TAG if isinstance(value, dict) else WORD_TAG


def _folder(value: str) -> str:
    if not value.startswith("/") or not is_plain_text(value):
        raise ValueError("expected the absolute path of a folder, such as /run/trtlab/shm")
    return os.path.normpath(value)


_COUNT_SCHEMA = WithJsonSchema({"anyOf": [{"const": AUTO}, {"type": "integer", "minimum": 1}]})
ReplicaCount = Annotated[int | Auto, _count_or_auto(1024), _COUNT_SCHEMA]
ThreadCount = Annotated[int | Auto, _count_or_auto(4096), _COUNT_SCHEMA]
SlotCount = Annotated[int | Auto, _count_or_auto(65_536), _COUNT_SCHEMA]
PipelineName = Annotated[
    str,
    AfterValidator(_name(r"[a-z0-9_-]{1,40}", "1 to 40 characters of a-z, 0-9, _ and -")),
    Field(examples=["resnet"]),
]
StageName = Annotated[
    str, AfterValidator(_name(r"[a-z][a-z0-9_-]{0,39}", "a letter, then up to 39 characters of a-z, 0-9, _ and -"))
]
TensorName = Annotated[str, Field(min_length=1, max_length=200)]
Extent = Annotated[
    int | str,
    PlainValidator(_extent),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]
CpuList = Annotated[
    str,
    PlainValidator(_cpu_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "examples": ["auto", "0-3,8"]}),
]
Use = Annotated[
    PlainText,
    AfterValidator(_name(r"([^:\s]+|[^:\s][^:\n]*\.py):[A-Za-z_][A-Za-z0-9_]*", "module:Class or ./file.py:Class")),
    Field(examples=["stages.image:DecodeResize", "./my_stage.py:MyStage"]),
]
Condition = Annotated[
    str,
    AfterValidator(_condition),
    Field(examples=["detect.found", "not detect.found"]),
]
Reference = Annotated[str, AfterValidator(_reference), Field(examples=["ingress.image", "decode.pixels"])]
References = Annotated[
    Annotated[tuple[Reference, ...], Field(strict=False), Tag(LIST_TAG)]
    | Annotated[dict[TensorName, Reference], Tag(MAPPING_TAG)],
    Discriminator(_list_or_mapping),
]



class InputConfig(Node):
    """One input of a request."""

    name: TensorName = Field(description="The name by which stages and clients know it: `ingress.NAME`.")
    dtype: str = Field(
        description='A numpy dtype such as uint8 or float32, or "bfloat16". Or "bytes": elements of any length, such '
        'as texts; then `max` has `bytes` too. Or "json": then the shape is one free dimension, such as [bytes], whose '
        "`max` is the size of the JSON text."
    )
    shape: Annotated[tuple[Extent, ...], Field(strict=False)] = Field(
        description="Extent of each axis, without a batch axis: a number, or the name of a free dimension, which "
        "may be 0. [] is a single value."
    )
    max: dict[str, ByteCount] = Field(
        default_factory=dict,
        description="The largest value of each free dimension; slots are sized from it. Of dtype bytes also of "
        "`bytes`: what all elements take together, 4 bytes for the length of each included.",
    )


class BatchConfig(Node):
    """How a worker forms batches of the requests that wait for it."""

    max_size: int = Field(default=1, ge=1, le=4096, description="Requests in one batch, at most.")
    max_delay_ms: float = Field(
        default=0.0, ge=0, le=60_000, description="How long the first request of a batch may wait for others."
    )
    gather: bool = Field(
        default=True,
        description="Whether requests whose tensors do not lie side by side may share a batch, which costs a copy.",
    )


class RestartConfig(Node):
    """When the supervisor gives a stage up."""

    max: int = Field(
        default=5,
        ge=0,
        le=10_000,
        description="Deaths without progress within `per_s`; after one more, the stage is given up.",
    )
    per_s: float = Field(default=60.0, gt=0, le=86_400, description="Seconds for which deaths are counted.")


class StageConfig(Node):
    """One stage: a class, its options, the sources of its inputs, and the number of its processes."""

    name: StageName = Field(description="Its name for other stages, `--set`, the log and `ps`.")
    use: Use = Field(description="The class: module:Class, or ./file.py:Class relative to this file.")
    options: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="Keyword arguments for the class."
    )
    inputs: References | None = Field(
        default=None,
        description="The source of each input: a list of producer.tensor in the order of the stage's inputs, or a "
        "mapping from input name to producer.tensor. Default: the stage before, by name, otherwise by order.",
    )
    after: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="Stages that must have finished first, although this stage reads no tensor of theirs."
    )
    when: Condition | None = Field(
        default=None,
        description="Run only if this output holds (is not 0, not false, not empty): stage.tensor, or not "
        "stage.tensor. Otherwise the stage is skipped, and so is every stage that needs an output of it and does not "
        "take it as optional.",
    )
    colocate: bool = Field(
        default=False,
        description="Run in the workers of the stage that is listed before this one, without a process of its own. "
        "That stage's replicas, cpus, threads, env and restart apply to both.",
    )
    replicas: ReplicaCount = Field(
        default=AUTO,
        description="Processes that run this stage. Default: for a model one for each NUMA node, or one for each core "
        "if there are fewer than 4; for a stage that asks for it, such as stages.image:DecodeResize, one for each core "
        "that light stages share, at most 4; for any other stage one. `pipeline check` says which rule it was, and "
        "`pipeline tune` measures others.",
    )
    batch: BatchConfig = Field(default_factory=BatchConfig, description="How batches are formed.")
    cpus: CpuList = Field(default=AUTO, description='CPUs to which its workers are bound, such as "0-3,8".')
    threads: ThreadCount = Field(
        default=AUTO, description="Threads that each worker may keep busy."
    )
    credits: SlotCount = Field(
        default=AUTO,
        description="Requests that may wait in one worker or be computed by it. Default: twice as many as it has under "
        "way at once, at least 4; so two batches, and more on a GPU.",
    )
    env: dict[str, str] = Field(default_factory=dict, description="Environment variables of its workers.")
    timeout_ms: float | None = Field(
        default=None,
        gt=0,
        le=86_400_000,
        description="If a worker computes one batch for longer, it is killed, even in the middle of a C call; the "
        "batch runs again, and a request that takes too long again fails alone. Default: no limit.",
    )
    restart: RestartConfig = Field(
        default_factory=lambda: RestartConfig(), description="How often its workers are started again."
    )


class IngressConfig(Node):
    """The entry of requests: between the clients and the first stages."""

    slots: SlotCount = Field(default=AUTO, description="Requests that may be inside the pipeline at once.")
    rows: int | None = Field(
        default=None, ge=1, le=4096,
        description="Rows that one request may carry in a slot, if all tensors are of fixed shapes; a larger batch is "
        "several requests. Default: 1; with `serve.batched` its largest batch, as far as slots stay below 256 KiB.",
    )


class RunConfig(Node):
    """Defaults of `pipeline run`."""

    inputs: Annotated[tuple[PlainText, ...], Field(strict=False)] = Field(
        default=(),
        description="What to run if the command line names nothing: files, folders or globs, relative to this file.",
    )
    files: Annotated[tuple[PlainText, ...], Field(strict=False, min_length=1)] = Field(
        default=("*",), description="Which files of a folder are taken: *.jpg, *.png."
    )
    pictures: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Outputs that are pictures: uint8 [H, W] (gray), [H, W, 3] (RGB) or [H, W, 4] (RGBA), or [bytes] "
        "of a JPEG or the like. `--output FOLDER/` writes each as a .png file, or as its bytes are; others become "
        ".npz files.",
    )


class QueueConfig(Node):
    """Overload."""

    max: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests that may wait for a worker of a first stage; one more is refused at once with "
        "Overloaded. Default: clients wait for a slot instead.",
    )


class CanaryConfig(Node):
    """A known good request, sent regularly while the pipeline serves: it finds out whether the pipeline is ready."""

    input: PlainText = Field(description="The file of the request, relative to this one.")
    every_s: float = Field(default=5.0, ge=0.1, le=3600, description="Seconds from one to the next.")


class CapsulesConfig(Node):
    """The capsules: inputs of requests that killed their worker, kept for `pipeline replay`."""

    folder: PlainText = Field(
        default="capsules", description="Their folder, relative to the folder in which the pipeline is started."
    )
    max_count: int = Field(default=20, ge=0, le=10_000, description="How many are kept, the newest; 0 writes none.")
    max_bytes: ByteCount = Field(default=64 * 1024 * 1024, description="Larger inputs are not kept.")


class SegmentsConfig(Node):
    """Segments as files of a folder, which clients in another container can share (docs/sidecar.md)."""

    dir: Annotated[str, AfterValidator(_folder), Field(examples=["/run/trtlab/shm"])] = Field(
        description="The folder, as an absolute path, on a file system in memory: a tmpfs, or an emptyDir with "
        "`medium: Memory`. Clients find the segments by this path, so each container mounts it there. It is made if it "
        "is missing.",
    )
    group: int | None = Field(
        default=None,
        ge=0,
        le=4_294_967_294,
        description="The number of a group whose members may be clients although they are other users: they may write "
        "the slots of requests, read those of answers, and connect to the scheduler; all other segments and sockets "
        "stay this user's alone. The pipeline's user must be a member. Default: clients run as the pipeline's user.",
    )


Segments = Annotated[
    Annotated[Literal["posix", "sysv"], Tag(WORD_TAG)] | Annotated[SegmentsConfig, Tag(MAPPING_TAG)],
    Discriminator(_word_or_mapping),
]


class PipelineConfig(Node):
    """A pipeline."""

    model_config = ConfigDict(title="pipeline", json_schema_extra={"patternProperties": {f"^{ANCHORS}": True}})

    name: PipelineName = Field(
        description="Its name in `ps`, the log and the segments. Default: the file's name without its suffix."
    )
    inputs: Annotated[tuple[InputConfig, ...], Field(strict=False, min_length=1)] = Field(
        description="The tensors of a request."
    )
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False, min_length=1)] = Field(
        description="The stages, in any order."
    )
    sources: Annotated[tuple[SourceConfig, ...], Field(strict=False)] = Field(
        default=(), description="Cameras whose frames the pipeline's one input takes, while no files are run."
    )
    record: RecordConfig | None = Field(
        default=None, description="Clips and snapshots of what happens at the sources. Default: none."
    )
    mqtt: MqttConfig | None = Field(
        default=None, description="A broker to which the cameras of `sources` are published. Default: none."
    )
    outputs: References | None = Field(
        default=None,
        description="The tensors of an answer: a list of stage.tensor, or a mapping from the name in the answer to "
        "stage.tensor. Default: all outputs of the last stage.",
    )
    answer_each_child: bool = Field(
        default=False,
        description="Answer every child by itself, as one part of the answer, as soon as it is done. All outputs must "
        "be of stages that run once for each child of one stage that fans out.",
    )
    ingress: IngressConfig = Field(default_factory=IngressConfig, description="How requests come in.")
    segments: Segments = Field(
        default="posix",
        description="The kind of shared memory: files in /dev/shm (posix), System V shared memory, or files in a "
        "folder of your choice, such as `{dir: /run/trtlab/shm, group: 2000}`.",
    )
    link: Literal["zmq", "ring"] = Field(
        default="zmq",
        description="What carries messages between the processes: ZeroMQ, or rings in shared memory beside it, which "
        "wake a process once instead of twice (docs/design.md). On machines that are not x86, `ring` is `zmq`.",
    )
    drain_s: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        description="How long a drain may take; after that, unfinished requests are given up.",
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        le=86_400_000,
        description="A request that is not answered within this time fails; its remaining stages are not computed. "
        "A request may bring its own. Default: none.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="While it serves: into how many runs it is divided, each with a scheduler of its own and its part "
        "of the replicas, GPUs and CPUs, behind one name; for a load that one scheduler does not keep up with "
        "(docs/shards.md). `ingress.slots`, `queue` and `drain_s` are those of each.",
    )
    queue: QueueConfig = Field(default_factory=QueueConfig, description="What happens under overload.")
    canary: CanaryConfig | None = Field(
        default=None, description="A known good request that tests whether the pipeline is ready."
    )
    capsules: CapsulesConfig = Field(
        default_factory=CapsulesConfig,
        description="Inputs of requests that killed their worker, kept for `pipeline replay`.",
    )
    metrics: MetricsConfig | None = Field(
        default=None, description="A port for /metrics. Default: none; `pipeline serve` has one of its own."
    )
    tracing: TracingConfig | None = Field(default=None, description="Export of traces. Default: none.")
    serve: ServeConfig = Field(default_factory=ServeConfig, description="Defaults of `pipeline serve`.")
    run: RunConfig = Field(default_factory=RunConfig, description="Defaults of `pipeline run`.")


def as_references(value: tuple[str, ...] | dict[str, str]) -> list[tuple[str | int, str]]:
    """The entries of `inputs:` or `outputs:` in either form: (position or name, producer.tensor)."""
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value))


def hosts_of(stages: Sequence[StageConfig]) -> dict[str, str]:
    """For each stage the one in whose workers it runs: itself, or, if it is colocated, the host listed before it."""
    hosts: dict[str, str] = {}
    host = ""
    for stage in stages:
        if not stage.colocate or not host:
            host = stage.name
        hosts[stage.name] = host
    return hosts
