"""Space: which candidates are worth a try, given the stages, what they cost, and the cores. Pure.

Two steps, each of a handful of candidates, since a pipeline takes seconds to start and seconds to measure:

    arrangements    processes: how many workers each stage has, of how many threads, and which stages share a process
    batches         on top of the best arrangement: how many requests a batch has, and how long the first one waits

A *cost* is the time that a stage computes for one request, alone in the pipeline, times its threads. So a stage's share
of all costs is its share of the cores if nothing else limits the pipeline.

What a config says is the user's: stages with `cpus` keep their workers, and a stage that says anything about its own
processes (replicas, cpus, threads, env, restart) is not put into the process of another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from pipeline.config.schema import AUTO, StageConfig, hosts_of
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import CUDA, Plan
from pipeline.tuning.candidate import Candidate, Changes, Goal, merged

__all__ = ["MOST_ARRANGEMENTS", "MOST_BATCHES", "Ground", "arrangements", "batches"]

MOST_ARRANGEMENTS = 12
MOST_BATCHES = 8
#: A stage whose part of the cost is below this is light: it can share a process with any other.
_LIGHT = 0.1
_MOST_BATCH = 64
_OWN = ("replicas", "cpus", "threads", "env", "restart")


@dataclass(frozen=True)
class Ground:
    """What the candidates are made from."""

    stages: Sequence[StageConfig]
    """As the config lists them."""
    descriptions: Mapping[str, StageDescription]
    plan: Plan
    """Of the config as it is."""
    costs: Mapping[str, float]
    """Milliseconds for one request and one thread, by stage."""
    cores: int


@dataclass(frozen=True)
class _Process:
    """Stages that share their workers, as the config has them."""

    host: str
    members: tuple[str, ...]
    share: float
    """Of all costs."""
    model: bool
    """Whether it runs a model on the CPU."""
    fixed: bool
    """Whether its workers are not ours to change: they run on GPUs, or on CPUs that the config names."""


def arrangements(ground: Ground, goal: Goal) -> list[Candidate]:
    """The candidates of the first step, the most promising first; none is the config as it is."""
    processes = _processes(ground)
    found: dict[Changes, Candidate] = {}
    for label, changes in _arrangements(ground, processes, goal):
        news = tuple(sorted(change for change in changes if not _holds(ground, change)))
        if news:
            found.setdefault(news, Candidate(label, merged(changes)))
    return list(islice(found.values(), MOST_ARRANGEMENTS))


def _arrangements(ground: Ground, processes: Sequence[_Process], goal: Goal) -> Iterator[tuple[str, Changes]]:
    cores = ground.cores
    balanced = _balanced(processes, cores, round)
    wide = {**balanced, **{one.host: 1 for one in processes if one.model and not one.fixed}}
    a_model_has_all = "a model has all cores", _workers(processes, wide, cores)
    if goal is Goal.LATENCY:
        yield from _one_process(ground, processes, 1, cores)
        yield a_model_has_all
    one_each = list(_one_process(ground, processes, cores, 1))
    yield from one_each[:1]
    yield "workers by what stages cost", _workers(processes, balanced, 1)
    if light := _light(ground, processes):
        away = {path.rpartition(".")[0] for path, _ in light}
        rest = [one for one in processes if one.host not in away]
        yield "light stages in others' workers, the rest by cost", merged(_workers(rest, balanced, 1), light)
    yield "workers by what stages cost, rounded up", _workers(processes, _balanced(processes, cores, math.ceil), 1)
    if cores > 1:
        yield from islice(_one_process(ground, processes, cores + 1, 1), 1)
    yield from one_each[1:]
    each = {one.host: cores if one.share >= _LIGHT else 1 for one in processes}
    yield f"{cores} workers of each stage that is not light", _workers(processes, each, 1)
    if cores > 2:  # otherwise these are workers of one thread, or of all
        yield "models of two threads", _workers(processes, _balanced(processes, cores, round, 2), 2)
        yield from _one_process(ground, processes, cores // 2, 2)
    yield a_model_has_all


def _processes(ground: Ground) -> list[_Process]:
    total = sum(ground.costs.values()) or 1.0
    members: dict[str, list[StageConfig]] = {}
    hosts = hosts_of(ground.stages)
    for stage in ground.stages:
        members.setdefault(hosts[stage.name], []).append(stage)
    return [
        _Process(
            host,
            tuple(stage.name for stage in stages),
            sum(ground.costs.get(stage.name, 0.0) for stage in stages) / total,
            any(_is_model(ground.descriptions[stage.name]) for stage in stages),
            stages[0].cpus != AUTO or any(ground.descriptions[stage.name].device == CUDA for stage in stages),
        )
        for host, stages in members.items()
    ]


def _is_model(description: StageDescription) -> bool:
    return description.is_inference and description.device != CUDA


def _balanced(
    processes: Sequence[_Process], cores: int, whole: Callable[[float], int], width: int = 1
) -> dict[str, int]:
    """Workers of each process by its share of the cores, at least one.

    Args:
        whole: how a number of workers becomes a whole one.
        width: threads of a model's worker.
    """
    return {one.host: max(1, whole(one.share * cores / (width if one.model else 1))) for one in processes}


def _workers(processes: Sequence[_Process], replicas: Mapping[str, int], width: int) -> Changes:
    """So many workers of each process that may be changed; those of models have `width` threads."""
    changes: list[tuple[str, int]] = []
    for one in processes:
        if not one.fixed:
            changes.append((f"{one.host}.replicas", replicas[one.host]))
            if one.model:
                changes.append((f"{one.host}.threads", width))
    return tuple(changes)


def _one_process(
    ground: Ground, processes: Sequence[_Process], count: int, threads: int
) -> Iterator[tuple[str, Changes]]:
    """All stages in one process, of which there are `count`; with batches as they are, and with the same for all."""
    first, *others = ground.stages
    if count < 1 or any(one.fixed for one in processes) or not all(_may_move(stage) for stage in others):
        return
    changes: Changes = ((f"{first.name}.replicas", count), (f"{first.name}.threads", threads))
    changes += tuple((f"{stage.name}.colocate", True) for stage in others)
    of = f" of {threads} threads" if threads > 1 else ""
    workers = f"{count} worker{'s' * (count > 1)}{of}"
    label = f"{count} x all stages in one process{of}" if others else workers
    size = max(stage.batch.max_size for stage in ground.stages)
    if size > 1 and others:
        same = tuple((f"{stage.name}.batch.max_size", _at_most(ground, stage.name, size)) for stage in ground.stages)
        yield f"{label}, batches of {size} for all", merged(changes, same)
    yield label, changes


def _may_move(stage: StageConfig) -> bool:
    """Whether a stage may share the process of another: the config says nothing of its own processes."""
    return stage.colocate or not any(field in stage.model_fields_set for field in _OWN)


def _light(ground: Ground, processes: Sequence[_Process]) -> Changes:
    """The light stages, each into the workers of the process listed before it."""
    by_name = {stage.name: stage for stage in ground.stages}
    return tuple(
        (f"{one.host}.colocate", True)
        for before, one in pairwise(processes)
        if one.share < _LIGHT and not one.fixed and not before.fixed and _may_move(by_name[one.host])
    )


def _holds(ground: Ground, change: tuple[str, int | float | bool]) -> bool:
    """Whether the config as it is has that already."""
    path, value = change
    name, _, field = path.partition(".")
    stage = ground.plan.stage(name)
    if field == "replicas":
        return len(stage.workers) == value
    if field == "threads":
        return stage.workers[0].threads == value
    if field == "colocate":
        return stage.host != name
    return bool(getattr(stage.batch, field.removeprefix("batch.")) == value)


def batches(ground: Ground, base: Candidate, goal: Goal) -> list[Candidate]:
    """The candidates of the second step: each changes the batches of one process of the best arrangement so far.

    For latency, with one request under way, a batch can only wait: so batches of one, and none that wait.
    """
    found: list[tuple[int, float, Candidate]] = []
    said = dict(base.changes)
    for stages in _sharing(ground, said):
        batched = [
            stage
            for stage in stages
            if _now(said, stage, "max_size") > 1 or ground.descriptions[stage.name].is_inference
        ]
        if not batched:
            continue
        share = sum(ground.costs.get(stage.name, 0.0) for stage in stages)
        for rank, (label, changes) in enumerate(_batches(ground, said, stages, batched, goal)):
            found.append((rank, -share, Candidate(label, merged(base.changes, changes))))
    found.sort(key=lambda each: each[:2])
    candidates = [candidate for _, _, candidate in found[:MOST_BATCHES]]
    most = int(max([_now(said, stage, "max_size") for stage in ground.stages]))
    same = tuple((f"{stage.name}.batch.max_size", _at_most(ground, stage.name, most)) for stage in ground.stages)
    news = any(_now(said, stage, "max_size") != size for stage, (_, size) in zip(ground.stages, same))
    if goal is Goal.THROUGHPUT and most > 1 and news:
        # What a stage passes on together arrives together, and the next batch is full at once.
        label = f"batches of {most} for all stages"
        candidates = [Candidate(label, merged(base.changes, same)), *candidates[: MOST_BATCHES - 1]]
    return candidates


def _batches(
    ground: Ground, said: Mapping[str, float], stages: Sequence[StageConfig], batched: Sequence[StageConfig], goal: Goal
) -> Iterator[tuple[str, Changes]]:
    """Other batches of one process.

    Args:
        stages: that share it.
        batched: those of them that compute in batches, or could.
    """
    size = int(max(_now(said, stage, "max_size") for stage in batched))
    names = "+".join(stage.name for stage in stages)
    many = goal is Goal.THROUGHPUT
    for count in dict.fromkeys((2 * size, size // 2, 4 * size, 1) if many else (1,)):
        changes = tuple(
            (f"{stage.name}.batch.max_size", _at_most(ground, stage.name, count)) for stage in stages
        )
        news = any(_now(said, stage, "max_size") != value for stage, (_, value) in zip(stages, changes))
        if 1 <= count <= _MOST_BATCH and count != size and news:
            yield f"{names}: batches of {count}", changes
    if size > 1:
        delay = max(_now(said, stage, "max_delay_ms") for stage in batched)
        for wait in (0.0, 5 * delay or 5.0, 25 * delay or 25.0) if many else (0.0,):
            if wait != delay:
                waits = tuple((f"{stage.name}.batch.max_delay_ms", wait) for stage in batched)
                yield f"{names}: the first of a batch waits {wait:g} ms", waits


def _sharing(ground: Ground, said: Mapping[str, float]) -> list[list[StageConfig]]:
    """The stages that share their workers with these changes."""
    groups: list[list[StageConfig]] = []
    for stage in ground.stages:
        if groups and said.get(f"{stage.name}.colocate", stage.colocate):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _now(said: Mapping[str, float], stage: StageConfig, field: str) -> float:
    """What a field of `batch` is with the changes so far."""
    return float(said.get(f"{stage.name}.batch.{field}", getattr(stage.batch, field)))


def _at_most(ground: Ground, name: str, size: int) -> int:
    """As large a batch as the stage takes."""
    return min(size, ground.descriptions[name].max_batch or size)
