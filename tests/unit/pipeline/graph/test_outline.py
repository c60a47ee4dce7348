from __future__ import annotations

from msgspec.structs import replace

from pipeline.graph.outline import outline_of
from tests.unit.pipeline.scheduler.graphs import make_plan


def test_an_outline_has_what_runs_and_the_sums_of_its_memory_in_one_line() -> None:
    plan = make_plan("chain", slots=3)
    line = outline_of(plan)
    assert "\n" not in line
    assert line.startswith(f"{plan.name}: a x1, b x1, c x1; 3 workers in 3 processes; ")
    for pool in plan.pools:
        assert f"{pool.name} {pool.slots} x " in line
    assert f"; link zmq; {plan.config_path}" in line


def test_a_device_is_named_and_of_very_many_stages_the_rest_is_counted() -> None:
    plan = make_plan("chain", slots=3)
    first = plan.stages[0]
    on_gpu = replace(first, workers=tuple(replace(worker, device="cuda:0") for worker in first.workers))
    assert "a x1 on cuda:0, b x1" in outline_of(replace(plan, stages=(on_gpu, *plan.stages[1:])))
    assert "a x1, 3 more; " in outline_of(replace(plan, stages=(first,) * 15))
