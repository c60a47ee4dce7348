"""Status: the scheduler's state as plain values, for people, probes and metrics."""

from __future__ import annotations

from typing import Any

from pipeline.graph.copying import edge_name
from pipeline.scheduler.ledger import Worker
from pipeline.scheduler.state import State
from pipeline.wire.labels import client_id

__all__ = ["readiness", "status_of"]

_STALE_PERIODS = 3
"""A stage is not ready if no request has passed it for this many periods of the canary."""


def readiness(state: State) -> dict[str, str]:
    """Why the pipeline is not ready, by stage ("" is the whole pipeline); empty: it is.

    If the plan has a canary, ready means that a request has passed every stage a moment ago; otherwise,
    that every stage has a worker.
    """
    reasons: dict[str, str] = {}
    if state.draining:
        reasons[""] = "stopping"
    canary = state.plan.canary
    for stage in state.compiled.stages:
        if not state.stage_workers[stage.index]:
            given_up = state.given_up.get(stage.index)
            reasons[stage.name] = f"broken: {given_up}" if given_up else "no worker is ready"
        elif canary is not None:
            last = state.last_ok[stage.index]
            age = (state.now - last) / 1e9
            if not last:
                reasons[stage.name] = "no request has passed it yet"
            elif age > _STALE_PERIODS * canary.every_s:
                reasons[stage.name] = f"no request has passed it for {age:.0f} s"
    return reasons


def status_of(state: State) -> dict[str, Any]:
    """Everything a person may want to know."""
    reasons = readiness(state)
    return {
        "pipeline": state.plan.name,
        "epoch": state.epoch,
        "ready": not reasons,
        "reasons": reasons,
        "inside": sum(1 for _ in state.unanswered()),
        "counts": dict(state.counts),
        "answers": dict(state.counts.answers),
        "stages": [
            {
                "name": stage.name,
                "replicas": len(state.plan.stages[stage.index].workers),
                "waiting": state.waiting(stage.index),
                "given_up": state.given_up.get(stage.index),
                **_totals(state, stage.index),
                "last_ok_s": None if not (last := state.last_ok[stage.index]) else (state.now - last) / 1e9,
                "workers": [_worker(state, stage.index, worker) for worker in state.stage_workers[stage.index]],
                "failures": state.failures.of(stage.index, state.now),
            }
            for stage in state.compiled.stages
        ],
        "pools": [
            {"name": pool.name, "slots": pool.slots, "free": state.pools[index].free}
            for index, pool in enumerate(state.plan.pools)
        ],
        "clients": [
            {
                "name": c.name,
                "id": client_id(c.number),
                "granted": len(c.granted),
                "borrowed": len(c.borrowed),
                "requests": len(c.requests),
            }
            for c in state.ingress.clients.values()
        ],
        "copies": [copy for stage in state.compiled.stages for copy in _copies(state, stage.index)],
        "unfinished": state.left_over,
    }


def _worker(state: State, index: int, worker: Worker) -> dict[str, Any]:
    """A living worker; `batches` and `rows` are what it has done since it started, as of its last report."""
    batches, rows = state.tally.of_worker(index, worker.number)
    return {
        "worker": worker.number,
        "process": state.plan.stages[index].workers[worker.replica].title,
        "replica": worker.replica,
        "pid": worker.pid,
        "ordered": len(worker.orders),
        "credits": worker.credits,
        "batches": batches,
        "rows": rows,
    }


def _totals(state: State, index: int) -> dict[str, Any]:
    """What a stage's workers have done since the scheduler began, the dead ones included."""
    total = state.tally.of(index)
    return {
        "deaths": total.deaths,
        "batches": total.batches,
        "rows": total.rows,
        "closed": total.closed,
        "refused": total.refused,
    }


def _copies(state: State, index: int) -> list[dict[str, Any]]:
    """What a stage's workers have copied, by edge and reason."""
    stage = state.plan.stages[index]
    return [
        {"edge": edge_name(stage, side, tensor), "reason": reason, "bytes": nbytes, "batches": batches}
        for (side, tensor, reason), (nbytes, batches) in state.tally.of(index).copies.items()
    ]
