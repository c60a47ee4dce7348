"""Which candidates are tried."""

from __future__ import annotations

from pipeline.tuning.candidate import UNTUNED, Candidate, Goal
from pipeline.tuning.space import MOST_ARRANGEMENTS, MOST_BATCHES, arrangements, batches
from tests.unit.pipeline.tuning.conftest import MakeGround

ONE_PROCESS = {"pre.replicas": 2, "pre.threads": 1, "infer.colocate": True, "post.colocate": True}


def changes_of(candidates: list[Candidate]) -> dict[str, dict[str, object]]:
    return {candidate.label: dict(candidate.changes) for candidate in candidates}


def test_all_stages_in_one_process_for_each_core_comes_first_with_the_models_batch_for_all(make_ground: MakeGround) -> None:
    first, *others = arrangements(make_ground(), Goal.THROUGHPUT)
    same = {f"{name}.batch.max_size": 4 for name in ("pre", "infer", "post")}
    assert dict(first.changes) == ONE_PROCESS | same
    assert first.label == "2 x all stages in one process, batches of 4 for all"
    assert ONE_PROCESS in [dict(candidate.changes) for candidate in others]
    assert ONE_PROCESS | same | {"pre.replicas": 3} in [dict(candidate.changes) for candidate in others]


def test_workers_follow_what_stages_cost(make_ground: MakeGround) -> None:
    found = changes_of(arrangements(make_ground(cores=8), Goal.THROUGHPUT))
    # 40 % and 60 % of eight cores.
    balanced = {"pre.replicas": 3, "infer.replicas": 5, "infer.threads": 1, "post.replicas": 1}
    assert found["workers by what stages cost"] == balanced
    assert found["workers by what stages cost, rounded up"] == balanced | {"pre.replicas": 4}
    assert found["models of two threads"] == {
        "pre.replicas": 3, "infer.replicas": 2, "infer.threads": 2, "post.replicas": 1,
    }  # fmt: skip
    assert found["light stages in others' workers, the rest by cost"] == {
        "pre.replicas": 3, "infer.replicas": 5, "infer.threads": 1, "post.colocate": True,
    }  # fmt: skip
    assert found["8 workers of each stage that is not light"] == balanced | {"pre.replicas": 8, "infer.replicas": 8}
    assert found["a model has all cores"] == balanced | {"infer.replicas": 1, "infer.threads": 8}


def test_what_the_config_has_already_is_no_candidate(make_ground: MakeGround) -> None:
    # On two cores the default is two workers of one thread for the model, and one of each other stage.
    same = {"pre.replicas": 1, "infer.replicas": 2, "infer.threads": 1, "post.replicas": 1}
    ground = make_ground(costs={"pre": 1.0, "infer": 9.0, "post": 0.1})
    found = [dict(candidate.changes) for candidate in arrangements(ground, Goal.THROUGHPUT)]
    assert same not in found
    assert len(found) == len({tuple(sorted(changes.items())) for changes in found})  # type: ignore[type-var]
    assert len(found) <= MOST_ARRANGEMENTS


def test_for_latency_one_process_and_a_model_with_all_cores_come_first(make_ground: MakeGround) -> None:
    first, *others = arrangements(make_ground(cores=4), Goal.LATENCY)
    assert (dict(first.changes)["pre.replicas"], dict(first.changes)["pre.threads"]) == (1, 4)
    assert "a model has all cores" in [candidate.label for candidate in others[:2]]


def test_a_stage_that_says_something_of_its_processes_stays_in_its_own(make_ground: MakeGround) -> None:
    ground = make_ground(infer="replicas: 1, batch: {max_size: 4}", post="env: {A: b}")
    for candidate in arrangements(ground, Goal.THROUGHPUT):
        assert not [path for path, _ in candidate.changes if path.endswith(".colocate")]
    assert arrangements(ground, Goal.THROUGHPUT)


def test_workers_on_cpus_that_are_given_and_on_gpus_stay(make_ground: MakeGround) -> None:
    for ground in (make_ground(infer='cpus: "0"'), make_ground(gpu=True)):
        for candidate in arrangements(ground, Goal.THROUGHPUT):
            # Nor does another stage get into their process.
            assert not [path for path, _ in candidate.changes if path.startswith("infer.") or path == "post.colocate"]


def test_batches_change_one_process_at_a_time_on_top_of_the_best_arrangement(make_ground: MakeGround) -> None:
    found = changes_of(batches(make_ground(), UNTUNED, Goal.THROUGHPUT))
    assert found == {
        "batches of 4 for all stages": {f"{name}.batch.max_size": 4 for name in ("pre", "infer", "post")},
        "infer: batches of 8": {"infer.batch.max_size": 8},
        "infer: batches of 2": {"infer.batch.max_size": 2},
        "infer: batches of 16": {"infer.batch.max_size": 16},
        "infer: batches of 1": {"infer.batch.max_size": 1},
        "infer: the first of a batch waits 0 ms": {"infer.batch.max_delay_ms": 0.0},
        "infer: the first of a batch waits 10 ms": {"infer.batch.max_delay_ms": 10.0},
        "infer: the first of a batch waits 50 ms": {"infer.batch.max_delay_ms": 50.0},
    }
    base = Candidate("one", tuple(ONE_PROCESS.items()))
    together = changes_of(batches(make_ground(), base, Goal.THROUGHPUT))
    assert together["pre+infer+post: batches of 8"] == ONE_PROCESS | {
        "pre.batch.max_size": 8, "infer.batch.max_size": 8, "post.batch.max_size": 8,
    }  # fmt: skip
    assert len(batches(make_ground(pre="batch: {max_size: 8}", post="batch: {max_size: 8}"), UNTUNED, Goal.THROUGHPUT)) == MOST_BATCHES


def test_no_batch_is_larger_than_its_stage_takes(make_ground: MakeGround) -> None:
    found = changes_of(batches(make_ground(max_batch=8), UNTUNED, Goal.THROUGHPUT))
    assert {changes.get("infer.batch.max_size") for changes in found.values()} == {8, 4, 2, 1, None}
    assert batches(make_ground(infer="", max_batch=1), UNTUNED, Goal.THROUGHPUT) == []


def test_for_latency_no_batch_waits(make_ground: MakeGround) -> None:
    assert changes_of(batches(make_ground(), UNTUNED, Goal.LATENCY)) == {
        "infer: batches of 1": {"infer.batch.max_size": 1},
        "infer: the first of a batch waits 0 ms": {"infer.batch.max_delay_ms": 0.0},
    }
