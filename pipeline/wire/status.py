"""Status: how a pipeline is, as the scheduler tells it to people, probes and metrics.

Each field is a key of the JSON that `pipeline status --json` and `Client.status` give, in the same order.
"""

from __future__ import annotations

from typing import Any

from pipeline.wire.records import Record

__all__ = [
    "NO_VALUES",
    "OUTCOMES",
    "CameraStatus",
    "ClientStatus",
    "CopyStatus",
    "FailureStatus",
    "FrameAgeStatus",
    "HistogramStatus",
    "PipelineStatus",
    "PoolStatus",
    "ReloadStatus",
    "ReloadsStatus",
    "StageStatus",
    "UnfinishedStatus",
    "WorkerStatus",
    "plain",
    "processes_in",
]


class HistogramStatus(Record, frozen=True):
    """How values are spread over buckets (see `pipeline.metrics.buckets`), since the scheduler began."""

    buckets: tuple[int, ...]
    """How many fell into each bucket, and above all of them; empty: none fell into any."""
    sum: float
    """Of all values."""


NO_VALUES = HistogramStatus((), 0.0)
"""A histogram of nothing."""


class WorkerStatus(Record, frozen=True):
    """A worker that is alive."""

    worker: int
    """Its number."""
    process: str
    """The title of its process."""
    replica: int
    pid: int
    ordered: int
    """Orders that it has now."""
    credits: int
    """Orders that it may be given besides."""
    batches: int
    """What it has done since it started, as of its last report."""
    rows: int


class FailureStatus(Record, frozen=True):
    """Failures of one kind in one stage."""

    message: str
    """What the client of the last request was told."""
    traceback: str
    """Of the last exception; empty if there was none, or if it is not kept any more."""
    request: str
    """The label of the last request that failed so."""
    count: int
    last_s: float
    """Seconds since the last one."""


class StageStatus(Record, frozen=True):
    """One stage. What its workers have done counts from the start of the scheduler, the dead ones included."""

    name: str
    replicas: int
    """How many workers it must have."""
    waiting: int
    """Requests that wait for it."""
    given_up: str | None
    """Why no more workers of it are started; None: they are."""
    deaths: int
    batches: int
    rows: int
    closed: dict[str, int]
    """Batches by the reason for which they closed."""
    refused: int
    """Frames and handles that its workers have refused."""
    last_ok_s: float | None
    """Seconds since a request has passed it; None: none has yet."""
    workers: tuple[WorkerStatus, ...]
    failures: tuple[FailureStatus, ...]
    """By kind, the one that was seen last first."""
    queue_s: HistogramStatus = NO_VALUES
    """What requests, and children, waited in its workers, in seconds. Those that ran again count again."""
    compute_s: HistogramStatus = NO_VALUES
    """What their batches took there, in seconds."""
    sizes: HistogramStatus = NO_VALUES
    """Rows of its batches."""


class PoolStatus(Record, frozen=True):
    """The slots of one pool."""

    name: str
    slots: int
    free: int


class ClientStatus(Record, frozen=True):
    """A client that is connected."""

    name: str
    id: str
    """What the ids of its requests begin with."""
    granted: int
    """Slots that it may fill."""
    borrowed: int
    """Slots of answers that it reads."""
    requests: int
    """Those without an answer yet."""


class CopyStatus(Record, frozen=True):
    """What workers have copied on one edge for one reason."""

    edge: str
    reason: str
    bytes: int
    batches: int


class FrameAgeStatus(Record, frozen=True):
    """How old the frames of a camera were when a stage was done with them."""

    stage: str
    seconds: HistogramStatus
    """From the frame's arrival at its source on."""


class CameraStatus(Record, frozen=True):
    """A camera. Counts are from the start of the scheduler on, over all processes that were its source."""

    name: str
    state: str
    """One of `pipeline.wire.camera.STATES`."""
    detail: str
    """Why it is not connected; empty: it is, or its source has not said."""
    state_s: float | None
    """Seconds since the state began; None: nothing has been heard of it yet."""
    last_frame_s: float | None
    """Seconds since its last frame came; None: none has yet."""
    frames: int
    """Frames that have come, whole or damaged."""
    sent: int
    answered: int
    failed: int
    """Frames whose request had an error in place of an answer."""
    dropped: dict[str, int]
    """By reason (see `pipeline.wire.camera.DROPS`)."""
    reconnects: int
    copied: int
    """Bytes that were copied on the way into slots."""
    ages: tuple[FrameAgeStatus, ...]
    clips: int = 0
    """Recorded, and whole."""
    unwritten: int = 0
    """Clips and snapshots that could not be written, or not to their end."""


class UnfinishedStatus(Record, frozen=True):
    """A request that was not finished when the drain's time was over."""

    request: int
    """The client's number for it."""
    client: str
    """The name of its client."""
    stages: tuple[str, ...]
    """What it waited for."""


OUTCOMES = ("succeeded", "failed", "rolled_back", "mixed")
"""How a reload ends. Succeeded: what is new serves. Failed: nothing has changed. Rolled back: some workers of a stage
were replaced, and are of the old version again. Mixed: that has failed too, so a stage has workers of both versions."""


class ReloadStatus(Record, frozen=True):
    """One reload (see docs/reload.md)."""

    stage: str
    """The stage whose workers alone are replaced; empty: the whole pipeline."""
    config: str
    """Path of the YAML file that what is new was read from."""
    before: str
    """The id of the run that serves, or did."""
    began_s: float
    """Seconds since the epoch."""
    after: str = ""
    """The id of the new version's run; empty: there is none yet, or a stage alone is replaced."""
    step: str = ""
    """How far it is: a `Milestone`, "goes back" among them."""
    text: str = ""
    """The same for people."""
    replaced: int = 0
    """How many of the stage's workers are of the new version."""
    workers: int = 0
    """How many the stage has; 0: that is not told yet, or the whole pipeline is reloaded."""
    ended_s: float | None = None
    """Seconds since the epoch; None: it is under way."""
    outcome: str = ""
    """One of OUTCOMES; empty: it is under way."""
    reason: str = ""
    """Why it did not succeed."""


class ReloadsStatus(Record, frozen=True):
    """The reloads of a pipeline since its first supervisor began."""

    under_way: ReloadStatus | None
    last: ReloadStatus | None
    """The last one that has ended. What is refused at once, since another one is under way, is none."""
    counts: dict[str, int]
    """By outcome."""


class PipelineStatus(Record, frozen=True):
    """Everything a person may want to know."""

    pipeline: str
    epoch: int
    """Which life of the scheduler it is."""
    ready: bool
    reasons: dict[str, str]
    """Why it is not ready, by stage ("" is the whole pipeline); empty: it is."""
    inside: int
    """Requests without an answer yet."""
    counts: dict[str, int]
    """What has happened since the scheduler began, by name; a name that is missing is 0."""
    answers: dict[str, int]
    """Answers by their code (see `pipeline.metrics.counts`)."""
    stages: tuple[StageStatus, ...]
    pools: tuple[PoolStatus, ...]
    clients: tuple[ClientStatus, ...]
    copies: tuple[CopyStatus, ...]
    unfinished: tuple[UnfinishedStatus, ...]
    drain_s: float
    """Seconds that what is under way may take once it is told to stop, or was replaced."""
    link: str = "zmq"
    """What carries its messages: "zmq" or "ring"."""
    request_s: HistogramStatus = NO_VALUES
    """What requests that were answered without an error took, from their submission to their answer, in seconds."""
    load_ratio: HistogramStatus = NO_VALUES
    """How many times as long as their computation they took (see `pipeline.scheduler.timings`)."""
    cameras: tuple[CameraStatus, ...] = ()
    """Those of the config, if they are read."""
    reloads: ReloadsStatus | None = None
    """None: the supervisor has not told this scheduler of them yet."""


def processes_in(status: PipelineStatus) -> dict[int, str]:
    """The titles of the processes of all workers, by the numbers of the workers."""
    return {worker.worker: worker.process for stage in status.stages for worker in stage.workers}


def plain(status: Any) -> Any:
    """A record and the records in it as dictionaries and lists, as JSON has them."""
    if isinstance(status, Record):
        return {name: plain(getattr(status, name)) for name in status.__struct_fields__}
    if isinstance(status, tuple):
        return [plain(item) for item in status]
    return status
