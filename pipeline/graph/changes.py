"""Changes: what is new in a plan, and whether the workers of one stage can be replaced because of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pipeline.graph.plan import Plan, StagePlan, WorkerPlan

__all__ = ["Changes", "changes_of"]

_NEW = {"use", "options"}
"""What a stage may have anew, without that anything else must know."""

_TOLD = {"use": "use", "options": "with", "workers": "replicas or their places", "max_restarts": "restart",
         "restart_window_s": "restart", "timeout_ms": "timeout_ms", "inputs": "the specs of its inputs",
         "outputs": "the specs of its outputs", "fields": "the specs of its outputs", "edges": "inputs",
         "sources": "inputs"}  # fmt: skip
"""What a person calls a field of `StagePlan`, if that is not its name."""

#: Of a plan: what follows from the rest, what differs with each reading, and what is compared by itself.
_DERIVED = {"stages", "pools", "why_rows", "spins", "config_path", "tracing", "name"}


class Changes(msgspec.Struct, frozen=True):
    """What has come of the comparison."""

    stages: tuple[StagePlan, ...] = ()
    """Those that the replaced workers have, with what is new about them."""
    note: str = ""
    """What else has changed, for a person; empty: nothing."""
    refusal: str = ""
    """Why their workers alone cannot be replaced; empty: they can."""


def changes_of(before: Plan, after: Plan, stages: Sequence[int]) -> Changes:
    """Compare a plan with what runs.

    Args:
        before: what runs.
        after: what its config says now.
        stages: the indices in `before` of those whose workers, which they share, are replaced.
    """
    whole = f"reload the whole pipeline: pipeline reload {before.name}"
    if after.base_dir != before.base_dir:
        return Changes(refusal=f"the config lies in another folder, {after.base_dir}, than that which runs: {whole}")
    now = {stage.name: stage for stage in after.stages}
    found: list[StagePlan] = []
    for index in stages:
        old = before.stages[index]
        new = now.get(old.name)
        if new is None:
            return Changes(refusal=f"the config has no stage {old.name} any more: {whole}")
        changed = [name for name in _differing(old, new) if name not in _NEW]
        if changed:
            return Changes(refusal=f"stage {old.name}: {_listed(changed)} changed, which others rely on: {whole}")
        found.append(new)
    return Changes(tuple(found), _note(before, after, {before.stages[index].name for index in stages}))


def _note(before: Plan, after: Plan, replaced: set[str]) -> str:
    then, now = ({stage.name: stage for stage in plan.stages} for plan in (before, after))
    told = []
    for name in dict.fromkeys([*then, *now]):
        if name in replaced:
            continue
        if name not in now or name not in then:
            told.append(f"stage {name} ({'is gone' if name in then else 'is new'})")
        elif changed := list(_differing(then[name], now[name])):
            told.append(f"stage {name} ({_listed(changed)})")
    told += [
        name for name in Plan.__struct_fields__
        if name not in _DERIVED and not _equal(getattr(before, name), getattr(after, name))
    ]  # fmt: skip
    names = " and ".join(sorted(replaced))
    return f"changed too, and not taken over, since {names} alone is reloaded: {', '.join(told)}" if told else ""


def _differing(old: StagePlan, new: StagePlan) -> Iterator[str]:
    """The fields of a stage that differ. Of workers the CPUs do not count: new ones take over those of the old."""
    for name in StagePlan.__struct_fields__:
        a, b = getattr(old, name), getattr(new, name)
        if name == "workers":
            a, b = [*map(_essence, a)], [*map(_essence, b)]
        if not _equal(a, b):
            yield name


def _essence(worker: WorkerPlan) -> tuple[Any, ...]:
    return worker.process, worker.threads, worker.device, dict(worker.env)


def _equal(one: object, other: object) -> bool:
    # NaN, which may be an option, differs from itself; its text does not.
    return one == other or (isinstance(one, dict) and json.dumps(one) == json.dumps(other))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(_TOLD.get(name, name) for name in names))
