"""Rates: two samples of a run make a frame of `pipeline top`: what happened each second between them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from pipeline.metrics.counts import answered_and_failed
from pipeline.watching.processes import ProcessUse
from pipeline.wire.camera import Drop
from pipeline.wire.records import Record
from pipeline.wire.status import CameraStatus, PipelineStatus, PoolStatus, ReloadsStatus, StageStatus

__all__ = ["CameraRow", "Frame", "ProcessRow", "Sample", "Sort", "StageRow", "age_text", "frame_of"]


class Sort(str, Enum):
    """What the rows of a frame are ordered by."""

    GRAPH = "graph"
    """Stages as in the graph, processes as they were started."""
    CPU = "cpu"
    MEMORY = "memory"
    RATE = "rate"
    WAITING = "waiting"


class Sample(NamedTuple):
    """A run at one moment."""

    at: float
    """Monotonic seconds."""
    run: str
    """Its id."""
    status: PipelineStatus | None
    """None: its scheduler did not answer."""
    why: str
    """Why it did not."""
    processes: Sequence[ProcessUse]
    age_s: float | None
    """Since its supervisor started."""


class StageRow(Record, frozen=True):
    """A stage."""

    name: str
    workers: int
    replicas: int
    """How many workers it must have."""
    waiting: int
    ordered: int
    """Orders that its workers have."""
    rate: float | None
    """Rows each second; None: not known yet."""
    batch: float | None
    """Rows of a batch, on average since the sample before; None: there was no batch."""
    deaths: int
    problem: str
    """Why it is not ready; empty: it is."""


class ProcessRow(Record, frozen=True):
    """A process."""

    title: str
    pid: int
    cpu: float | None
    """Of one CPU: 1.0 is one that it has for itself; None: not known yet."""
    memory: int
    """Bytes; see `ProcessUse.memory`."""
    threads: int


class CameraRow(Record, frozen=True):
    """A camera."""

    name: str
    state: str
    """One of `pipeline.wire.camera.STATES`."""
    detail: str
    """Why it is not connected; empty: it is."""
    frame_rate: float | None
    """Frames that came, each second; None: not known yet."""
    answered_rate: float | None
    """Frames that were answered, each second."""
    dropped_rate: float | None
    """Frames that were dropped although `fps` wanted them, each second."""
    age_s: float | None
    """How old a frame was when the last stage was done with it, on average since the sample before; None: there was
    none."""
    clips: int
    unwritten: int
    """Clips and snapshots that could not be written."""


class Frame(Record, frozen=True):
    """What `pipeline top` shows at one time; with --json, each field is a key."""

    run: str
    pipeline: str
    ready: bool
    reasons: dict[str, str]
    """Why it is not ready, by stage ("" is the whole pipeline)."""
    age_s: float | None
    seconds: float
    """Over which the rates are; 0: this is the first sample, and there are none yet."""
    answered_rate: float | None
    """Requests answered without an error, each second."""
    failed_rate: float | None
    """Requests answered with one, each second."""
    inside: int
    """Requests without an answer yet."""
    clients: int
    stages: tuple[StageRow, ...]
    processes: tuple[ProcessRow, ...]
    pools: tuple[PoolStatus, ...]
    memory: int
    """Bytes of all processes."""
    cameras: tuple[CameraRow, ...] = ()
    reloads: ReloadsStatus | None = None


def frame_of(now: Sample, before: Sample | None, sort: Sort = Sort.GRAPH) -> Frame:
    """What is shown of `now`.

    Args:
        now: the newest sample.
        before: an earlier one. If it is of another run, or of an earlier life of the scheduler, whose counts began
            anew, there are no rates.
        sort: the order of rows; a number that is not known is the last.
    """
    if before is not None and (before.run != now.run or before.at >= now.at):
        before = None
    seconds = 0.0 if before is None else now.at - before.at
    status = now.status
    earlier = None if before is None else before.status
    if earlier is not None and (status is None or earlier.epoch != status.epoch):
        earlier = None
    stages = () if status is None else tuple(_stage_row(each, earlier, seconds, status) for each in status.stages)
    processes = tuple(_process_row(each, before, seconds) for each in now.processes)
    inside, clients = (0, 0) if status is None else (status.inside, len(status.clients))
    answered, failed = _answers(status)
    answered_before, failed_before = _answers(earlier)
    return Frame(
        run=now.run,
        pipeline=now.run.rpartition("-")[0],
        ready=status is not None and status.ready,
        reasons={"": now.why} if status is None else status.reasons,
        age_s=now.age_s,
        seconds=seconds,
        answered_rate=_rate(answered, answered_before if earlier else None, seconds),
        failed_rate=_rate(failed, failed_before if earlier else None, seconds),
        inside=inside,
        clients=clients,
        stages=tuple(_sorted_stages(stages, sort)),
        processes=tuple(_sorted_processes(processes, sort)),
        pools=() if status is None else status.pools,
        memory=sum(each.memory for each in now.processes),
        cameras=_camera_rows(status, earlier, seconds),
        reloads=None if status is None else status.reloads,
    )


def _answers(status: PipelineStatus | None) -> tuple[int, int]:
    """Without an error, and with one."""
    return (0, 0) if status is None else answered_and_failed(status.answers)


def _rate(count: int, before: int | None, seconds: float) -> float | None:
    """How often it happened each second; None: not known, as of a count that began anew."""
    return None if before is None or count < before or not seconds else (count - before) / seconds


def _stage_row(stage: StageStatus, earlier: PipelineStatus | None, seconds: float, status: PipelineStatus) -> StageRow:
    was = next((each for each in earlier.stages if each.name == stage.name), None) if earlier is not None else None
    batches = 0 if was is None else stage.batches - was.batches
    rows = 0 if was is None else stage.rows - was.rows
    return StageRow(
        name=stage.name,
        workers=len(stage.workers),
        replicas=stage.replicas,
        waiting=stage.waiting,
        ordered=sum(worker.ordered for worker in stage.workers),
        rate=_rate(stage.rows, None if was is None else was.rows, seconds),
        batch=rows / batches if batches > 0 else None,
        deaths=stage.deaths,
        problem=stage.given_up or status.reasons.get(stage.name, ""),
    )


def _camera_rows(
    status: PipelineStatus | None, earlier: PipelineStatus | None, seconds: float
) -> tuple[CameraRow, ...]:
    return () if status is None else tuple(_camera_row(each, earlier, seconds) for each in status.cameras)


def _camera_row(camera: CameraStatus, earlier: PipelineStatus | None, seconds: float) -> CameraRow:
    was = next((each for each in earlier.cameras if each.name == camera.name), None) if earlier is not None else None
    count, total = _ages(camera)
    before, total_before = (count, total) if was is None else _ages(was)
    return CameraRow(
        name=camera.name,
        state=camera.state,
        detail=camera.detail,
        frame_rate=_rate(camera.frames, None if was is None else was.frames, seconds),
        answered_rate=_rate(camera.answered, None if was is None else was.answered, seconds),
        dropped_rate=_rate(_unwanted_drops(camera), None if was is None else _unwanted_drops(was), seconds),
        age_s=(total - total_before) / (count - before) if count > before else None,
        clips=camera.clips,
        unwritten=camera.unwritten,
    )


def _ages(camera: CameraStatus) -> tuple[int, float]:
    """How many frames the last stage was done with, and the sum of their ages then."""
    if not camera.ages:
        return 0, 0.0
    last = camera.ages[-1].seconds
    return sum(last.buckets), last.sum


def _unwanted_drops(camera: CameraStatus) -> int:
    return sum(count for reason, count in camera.dropped.items() if reason != Drop.RATE)


def _process_row(process: ProcessUse, before: Sample | None, seconds: float) -> ProcessRow:
    same = (process.pid, process.started)
    found = () if before is None else before.processes
    was = next((each.cpu_s for each in found if (each.pid, each.started) == same), None)
    # It has no sample before, and perhaps has not lived for so long.
    cpu = None if was is None or not seconds else max(0.0, process.cpu_s - was) / seconds
    return ProcessRow(process.title, process.pid, cpu, process.memory, process.threads)


def _sorted_stages(rows: Sequence[StageRow], sort: Sort) -> Sequence[StageRow]:
    if sort is Sort.RATE:
        return sorted(rows, key=lambda row: -1.0 if row.rate is None else row.rate, reverse=True)
    if sort is Sort.WAITING:
        return sorted(rows, key=lambda row: row.waiting, reverse=True)
    return rows


def _sorted_processes(rows: Sequence[ProcessRow], sort: Sort) -> Sequence[ProcessRow]:
    if sort is Sort.CPU:
        return sorted(rows, key=lambda row: -1.0 if row.cpu is None else row.cpu, reverse=True)
    if sort is Sort.MEMORY:
        return sorted(rows, key=lambda row: row.memory, reverse=True)
    return rows


def age_text(seconds: float | None) -> str:
    """A length of time in its two largest units: "42 s", "3 min 5 s", "2 h 7 min", "4 d 1 h"; "-" for None."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
