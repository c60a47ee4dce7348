"""Status: the scheduler's state as a value, for people, probes and metrics."""

from __future__ import annotations

from pipeline.graph.copying import edge_name
from pipeline.scheduler.ingress import Client
from pipeline.scheduler.ledger import Worker
from pipeline.scheduler.state import State
from pipeline.wire.labels import client_id
from pipeline.wire.status import (
    ClientStatus,
    CopyStatus,
    HistogramStatus,
    PipelineStatus,
    PoolStatus,
    StageStatus,
    WorkerStatus,
)

__all__ = ["readiness", "status_of"]

_STALE_PERIODS = 3
"""A stage is not ready if no request has passed it for this many periods of the canary."""


_UNREACHABLE_NS = 10_000_000_000
"""For so long after the last such failure a stage is not ready. Not until a request passes: none would come, if what
sends them goes by this."""


def readiness(state: State) -> dict[str, str]:
    """Why the pipeline is not ready, by stage ("" is the whole pipeline); empty: it is.

    If the plan has a canary, ready means that a request has passed every stage a moment ago; otherwise,
    that every stage has a worker, and has just found what it asks, such as a server.
    """
    reasons: dict[str, str] = {}
    if state.draining:
        reasons[""] = "stopping"
    elif state.successor:
        reasons[""] = "replaced by a new version: it finishes what it has"
    canary = state.plan.canary
    for stage in state.compiled.stages:
        if not state.stage_workers[stage.index]:
            given_up = state.given_up.get(stage.index)
            reasons[stage.name] = f"broken: {given_up}" if given_up else "no worker is ready"
        elif (found := state.unreachable.get(stage.index)) and state.now - found[0] < _UNREACHABLE_NS:
            reasons[stage.name] = found[1]
        elif canary is not None:
            last = state.last_ok[stage.index]
            age = (state.now - last) / 1e9
            if not last:
                reasons[stage.name] = "no request has passed it yet"
            elif age > _STALE_PERIODS * canary.every_s:
                reasons[stage.name] = f"no request has passed it for {age:.0f} s"
    return reasons


def status_of(state: State) -> PipelineStatus:
    """Everything a person may want to know."""
    reasons = readiness(state)
    stages = state.compiled.stages
    return PipelineStatus(
        pipeline=state.plan.name,
        epoch=state.epoch,
        ready=not reasons,
        reasons=reasons,
        inside=sum(1 for _ in state.unanswered()),
        counts=dict(state.counts),
        answers=dict(state.counts.answers),
        stages=tuple([_stage(state, stage.index) for stage in stages]),
        pools=tuple([PoolStatus(p.name, p.slots, pool.free) for p, pool in zip(state.plan.pools, state.pools)]),
        clients=tuple([_client(client) for client in state.ingress.clients.values()]),
        copies=tuple([copy for stage in stages for copy in _copies(state, stage.index)]),
        unfinished=tuple(state.left_over),
        drain_s=state.plan.drain_s,
        link=state.plan.link,
        request_s=state.timings.request(),
        load_ratio=state.timings.load_ratio(),
        cameras=state.cameras.status(state.now),
        reloads=state.reloads,
    )


def _stage(state: State, index: int) -> StageStatus:
    stage = state.plan.stages[index]
    total = state.tally.of(index)
    last = state.last_ok[index]
    return StageStatus(
        name=stage.name,
        replicas=len(stage.workers),
        waiting=state.waiting(index),
        given_up=state.given_up.get(index),
        deaths=total.deaths,
        batches=total.batches,
        rows=total.rows,
        closed=dict(total.closed),
        refused=total.refused,
        last_ok_s=(state.now - last) / 1e9 if last else None,
        workers=tuple([_worker(state, index, worker) for worker in state.stage_workers[index]]),
        failures=tuple(state.failures.of(index, state.now)),
        queue_s=HistogramStatus(tuple(total.queue), total.queue_us / 1e6),
        compute_s=HistogramStatus(tuple(total.compute), total.compute_us / 1e6),
        sizes=HistogramStatus(tuple(total.sizes), float(total.rows)),
    )


def _worker(state: State, index: int, worker: Worker) -> WorkerStatus:
    batches, rows = state.tally.of_worker(index, worker.number)
    return WorkerStatus(
        worker=worker.number,
        process=state.plan.stages[index].workers[worker.replica].title,
        replica=worker.replica,
        pid=worker.pid,
        ordered=len(worker.orders),
        credits=worker.credits,
        batches=batches,
        rows=rows,
    )


def _client(client: Client) -> ClientStatus:
    return ClientStatus(
        client.name, client_id(client.number), len(client.granted), len(client.borrowed), len(client.requests)
    )


def _copies(state: State, index: int) -> list[CopyStatus]:
    """What a stage's workers have copied, by edge and reason."""
    stage = state.plan.stages[index]
    return [
        CopyStatus(edge_name(stage, side, tensor), reason, nbytes, batches)
        for (side, tensor, reason), (nbytes, batches) in state.tally.of(index).copies.items()
    ]
