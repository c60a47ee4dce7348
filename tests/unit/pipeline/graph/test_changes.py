"""Whether the workers of one stage can be replaced, and what else has changed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.graph.changes import changes_of
from pipeline.graph.plan import BatchPlan, Plan, StagePlan, WorkerPlan
from stages.spec import TensorSpec


def stage(name: str, **more: Any) -> StagePlan:
    given: dict[str, Any] = {"use": "m:C", "options": {}, "workers": (WorkerPlan(name, 0, (0, 1)),), **more}
    empty: dict[str, Any] = {"inputs": (), "edges": (), "after": (), "outputs": (), "fields": ()}
    return StagePlan(name, batch=given.pop("batch", BatchPlan()), credits=4, host=name, **{**empty, **given})


BEFORE = Plan("demo", "/demo.yaml", "/home", (), (stage("a"), stage("b"), stage("c")), (), ())


def with_stage(index: int, **fields: Any) -> Plan:
    stages = list(BEFORE.stages)
    stages[index] = replace(stages[index], **fields)
    return replace(BEFORE, stages=tuple(stages))


def test_use_and_options_of_the_stage_may_change_and_other_cpus_are_not_taken_over() -> None:
    after = with_stage(1, use="n:D", options={"x": 2}, workers=(WorkerPlan("b", 0, (7,), why="else"),))
    found = changes_of(BEFORE, after, [1])
    assert [(each.use, each.options) for each in found.stages] == [("n:D", {"x": 2})]
    assert (found.note, found.refusal) == ("", "")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"outputs": (TensorSpec("y", "uint8", (1,)),)}, "the specs of its outputs"),
        ({"inputs": (TensorSpec("x", "uint8", (1,)),)}, "the specs of its inputs"),
        ({"batch": BatchPlan(8)}, "batch"),
        ({"max_restarts": 1, "restart_window_s": 5.0}, "restart"),
        ({"timeout_ms": 5.0}, "timeout_ms"),
        ({"credits": 5}, "credits"),
        ({"workers": (WorkerPlan("b", 0), WorkerPlan("b", 1))}, "replicas or their places"),
        ({"workers": (WorkerPlan("b", 0, device="cuda:1"),)}, "replicas or their places"),
        ({"workers": (WorkerPlan("b", 0, env={"X": "1"}),)}, "replicas or their places"),
    ],
)
def test_what_others_rely_on_is_refused_with_what_to_do(fields: dict[str, Any], named: str) -> None:
    found = changes_of(BEFORE, with_stage(1, **fields), [1])
    why = f"stage b: {named} changed, which others rely on: reload the whole pipeline: pipeline reload demo"
    assert found.refusal == why


def test_a_stage_that_is_gone_and_another_folder_are_refused() -> None:
    gone = changes_of(BEFORE, replace(BEFORE, stages=BEFORE.stages[:1]), [1])
    assert gone.refusal == "the config has no stage b any more: reload the whole pipeline: pipeline reload demo"
    assert "another folder, /srv" in changes_of(BEFORE, replace(BEFORE, base_dir="/srv"), [1]).refusal


def test_what_has_changed_elsewhere_is_told() -> None:
    after = with_stage(0, options={"x": 1}, batch=BatchPlan(2))
    after = replace(after, drain_s=5.0, config_path="/new.yaml", stages=(*after.stages[:2], stage("d")))
    assert changes_of(BEFORE, after, [1]).note == (
        "changed too, and not taken over, since b alone is reloaded: "
        "stage a (with, batch), stage c (is gone), stage d (is new), drain_s"
    )


def test_colocated_stages_are_replaced_together_and_nan_has_not_changed() -> None:
    before = with_stage(0, options={"x": float("nan")})
    after = with_stage(0, options={"x": float("nan")})
    assert changes_of(before, after, [1]).note == ""
    found = changes_of(BEFORE, with_stage(2, options={"x": 1}), [0, 2])
    assert [each.name for each in found.stages] == ["a", "c"]
    assert changes_of(BEFORE, with_stage(2, batch=BatchPlan(3)), [0, 2]).refusal.startswith("stage c: batch")
