"""Planner: reads the config of a run anew, for the workers of one stage (see `pipeline.supervisor.rolling`).

It does what `pipeline check` does, in a process of its own: the stages' classes are asked what they declare, which
takes seconds. It says what is new about the stage, or why its workers alone cannot be replaced, and ends.
"""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec

from pipeline.cli.run import pull_models
from pipeline.config.loader import load_version
from pipeline.errors import ConfigError, StartError
from pipeline.graph.budget import short_of_one_more
from pipeline.graph.changes import changes_of
from pipeline.graph.plan import Plan
from pipeline.prepare.gpu_room import shortage_beside
from pipeline.prepare.preparation import prepare_loaded
from pipeline.processes.child import boot
from pipeline.topology.refusals import is_refusal, refusal_of
from pipeline.wire.address import SUPERVISOR
from pipeline.wire.links import connect
from pipeline.wire.messages import Planned, StageChange
from stages.errors import ModelError

__all__ = ["main"]


def main() -> None:
    """Entry point of the process."""
    boot_ = boot()
    try:
        planned = _planned(boot_.plan, boot_.extra)
    except (ConfigError, StartError, ModelError) as error:
        planned = Planned(refusal=str(error))
    except OSError as error:
        if not is_refusal(error):
            raise
        planned = Planned(refusal=refusal_of(error))
    supervisor = connect(boot_.run_dir, SUPERVISOR)
    supervisor.send(planned)
    supervisor.close(linger_ms=1000)


def _planned(plan: Plan, asked: dict[str, Any]) -> Planned:
    """What is asked: "config", its path; "assignments"; "stages", the indices of those that the workers have."""
    loaded = load_version(asked["config"], asked["assignments"], plan.name)
    pull_models(loaded)
    prepared = prepare_loaded(loaded)
    # As the other one, which has come in a boot document.
    after: Plan = msgspec.convert(json.loads(prepared.plan.to_json()), Plan)
    stages: list[int] = asked["stages"]
    changes = changes_of(plan, after, stages)
    if changes.refusal:
        return Planned(refusal=changes.refusal)
    names = [plan.stages[stage].name for stage in stages]
    weights = sum(prepared.budget.weights.get(name, 0) for name in names)
    if short := short_of_one_more(weights, prepared.machine.memory):
        return Planned(refusal=f"a new worker beside the old one does not fit: {short}")
    workers = plan.stages[stages[0]].workers
    if short := shortage_beside(workers, prepared.machine, plan.name, os.getppid(), at_once=False):
        return Planned(refusal=f"{short}: stop the pipeline, and start it anew")
    found = [
        StageChange(index, stage.use, json.dumps(stage.options)) for index, stage in zip(stages, changes.stages)
    ]
    return Planned(tuple(found), changes.note)


if __name__ == "__main__":
    main()
