"""Overview: the runs of this user on this host, as `pipeline ps` lists them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
from msgspec.structs import replace

from pipeline.client.status import ANSWER_S, ask_status
from pipeline.errors import PipelineError, Unavailable
from pipeline.metrics.counts import answered_and_failed
from pipeline.watching.owner import Owner, owner_of
from pipeline.watching.processes import uses_of
from pipeline.watching.rates import Sample
from pipeline.wire.records import Record
from pipeline.wire.run_dir import READY, STOPPING, Run, living_runs, successor_of
from pipeline.wire.shards import is_front, shards_of
from pipeline.wire.status import PipelineStatus, ReloadsStatus

__all__ = ["RunRow", "front_row", "overview", "owned_runs", "row_of", "sample_of"]

#: Schedulers that are asked at one time; one that hangs must not keep the others waiting.
_AT_A_TIME = 8


class RunRow(Record, frozen=True):
    """A run; with --json, each field is a key."""

    id: str
    """As commands take it in place of a name: detect-29227."""
    pipeline: str
    pid: int | None
    """Of its supervisor; None: it is in another container, or it cannot be proven which process it is."""
    state: str
    """"ready", "not ready", "starting", "stopping", "replaced", or "no answer"."""
    reasons: dict[str, str]
    """Why it is not ready, by stage ("" is the whole pipeline)."""
    stages: tuple[str, ...]
    age_s: float | None
    answered: int | None
    """Requests that were answered without an error, since its scheduler began; None: it does not answer."""
    failed: int | None
    """Requests that were answered with one."""
    inside: int | None
    """Requests without an answer yet."""
    clients: int | None
    memory: int | None
    """Bytes of its processes, which see each byte that several have in common as shared out among them."""
    folder: str
    reloads: ReloadsStatus | None = None
    """Of the pipeline, as far as it is known; see `ReloadsStatus`."""


def owned_runs() -> list[Run]:
    """The living runs of this user, those that were replaced and finish what they have too, by pipeline and age.

    Raises:
        Unavailable: the folder of all runs may not be read.
    """
    own = []
    for run in living_runs(shards=True):
        with suppress(OSError):  # one that has just ended
            if run.folder.stat().st_uid == os.geteuid():
                own.append(run)
    return sorted(own, key=lambda run: (run.pipeline, run.started, run.made_ns))


def overview(timeout_s: float = ANSWER_S) -> list[RunRow]:
    """All of them, each asked by a thread.

    Args:
        timeout_s: how long each scheduler has for its answer.

    Raises:
        Unavailable: as `owned_runs`.
    """
    found = owned_runs()
    owners = {run.folder: owner_of(run.folder) for run in found}
    apart = [owner.pid for owner in owners.values() if owner is not None]

    def look(run: Run) -> RunRow:
        status, why = (None, "") if is_front(run.folder) else _ask(run.folder, timeout_s)
        owner = owners[run.folder]
        memory = None if owner is None else sum(use.memory for use in uses_of(owner.pid, apart))
        after = successor_of(run.folder)
        return row_of(
            run.folder, None if owner is None else owner.pid, status, why, _age_of(owner), memory,
            marked=(run.folder / READY).exists(), stopping=(run.folder / STOPPING).exists(),
            successor="" if after is None else after.name,
        )  # fmt: skip

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        rows = {run.folder: row for run, row in zip(found, pool.map(look, found))}
    for folder in [folder for folder in rows if is_front(folder)]:
        rows[folder] = front_row(rows[folder], [rows[shard] for shard in shards_of(folder) if shard in rows])
    return list(rows.values())


def front_row(own: RunRow, shards: Sequence[RunRow]) -> RunRow:
    """What is shown of a run with shards: the sum of their rows, which are shown too. Pure.

    Args:
        own: what is known of its front alone.
        shards: of those that are alive.
    """
    reloads = None
    if own.state in ("replaced", "stopping"):
        state, reasons = own.state, own.reasons
    else:
        # They are of the whole pipeline. A shard that has just been started again does not know of them yet.
        reloads = next((row.reloads for row in shards if row.reloads is not None), None)
        state = "ready" if any(row.state == "ready" for row in shards) else "starting"
        reasons = {row.id: row.state for row in shards if row.state != "ready"}

    def total(name: str) -> int | None:
        known = [value for row in shards if (value := getattr(row, name)) is not None]
        return sum(known) if known else None

    return replace(
        own, state=state, reasons=reasons, stages=shards[0].stages if shards else (),
        answered=total("answered"), failed=total("failed"), inside=total("inside"), clients=total("clients"),
        memory=None if own.memory is None else own.memory + (total("memory") or 0), reloads=reloads,
    )  # fmt: skip


def row_of(
    folder: Path,
    pid: int | None,
    status: PipelineStatus | None,
    why: str,
    age_s: float | None,
    memory: int | None,
    *,
    marked: bool,
    stopping: bool,
    successor: str,
) -> RunRow:
    """What is shown of a run. Pure.

    Args:
        folder: its folder.
        pid: of its supervisor.
        status: as its scheduler tells it; None: it does not answer.
        why: the reason for that.
        age_s: seconds since its supervisor started.
        memory: bytes of its processes.
        marked: whether it was ready when its supervisor looked last.
        stopping: whether it is on its way to its end.
        successor: the name of the folder that leads to the run which has replaced it; empty: none has.
    """
    reasons = {"": why} if status is None else dict(status.reasons)
    if successor:
        state, reasons = "replaced", {"": f"by {successor}; it finishes what it has"}
    elif stopping:
        # Its scheduler says the same, or has ended already; a stage without a worker keeps it from its end.
        state, reasons = "stopping", {stage: reason for stage, reason in reasons.items() if stage}
    elif status is None:
        state = "no answer" if marked else "starting"
    elif status.ready and marked:
        state = "ready"
    else:
        # Until the supervisor has said that all is ready, the scheduler alone knows only its own part of it.
        state = "not ready" if status.reasons else "starting"
    answered, failed = (None, None) if status is None else answered_and_failed(status.answers)
    return RunRow(
        id=folder.name,
        pipeline=folder.name.rpartition("-")[0],
        pid=pid,
        state=state,
        reasons=reasons,
        stages=() if status is None else tuple(stage.name for stage in status.stages),
        age_s=age_s,
        answered=answered,
        failed=failed,
        inside=None if status is None else status.inside,
        clients=None if status is None else len(status.clients),
        memory=memory,
        folder=str(folder),
        # Those of a run that was replaced are told by the one that serves.
        reloads=None if status is None or successor else status.reloads,
    )


def sample_of(
    folder: Path, apart: Collection[int] | None = None, timeout_s: float = ANSWER_S
) -> Sample:
    """The run in this folder now, for `pipeline top`.

    Args:
        folder: its folder.
        apart: pids of other runs' supervisors; None: they are looked for.
        timeout_s: how long its scheduler has for its answer.
    """
    status, why = _ask(folder, timeout_s)
    owner = owner_of(folder)
    uses = [] if owner is None else uses_of(owner.pid, _supervisors() if apart is None else apart)
    return Sample(time.monotonic(), folder.name, status, why, uses, _age_of(owner))


def _supervisors() -> list[int]:
    with suppress(Unavailable):
        return [owner.pid for run in owned_runs() if (owner := owner_of(run.folder)) is not None]
    return []


def _ask(folder: Path, timeout_s: float) -> tuple[PipelineStatus | None, str]:
    """The status, or why there is none."""
    try:
        return ask_status(folder, timeout_s), ""
    except (PipelineError, OSError) as error:
        # One run of which nothing can be learned must not keep others from being listed.
        return None, str(error)


def _age_of(owner: Owner | None) -> float | None:
    if owner is not None:
        with suppress(psutil.Error):
            return max(0.0, time.time() - psutil.Process(owner.pid).create_time())
    return None
