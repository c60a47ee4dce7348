"""What the pools take against what there is, and what the operator is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import StartError
from pipeline.graph.budget import make_budget
from pipeline.graph.plan import Plan, PoolPlan
from pipeline.topology.memory import MemoryLimits
from shm.layout import SegmentLayout

MIB = 1 << 20
PLAN = Plan(
    name="demo",
    config_path="demo.yaml",
    base_dir=".",
    inputs=(),
    stages=(),
    outputs=(),
    pools=(PoolPlan("ingress/0", 16 * MIB, 2), PoolPlan("infer", MIB, 40)),
)
TOTAL = SegmentLayout.total_bytes(2, 16 * MIB) + SegmentLayout.total_bytes(40, MIB)
LARGEST = SegmentLayout.total_bytes(40, MIB)
PLENTY = MemoryLimits(shm_size=1 << 40, shm_free=1 << 40)


def refusal(plan: Plan, memory: MemoryLimits) -> str:
    with pytest.raises(StartError) as caught:
        make_budget(plan, memory).refuse()
    return str(caught.value)


def test_a_budget_sums_whole_segments() -> None:
    budget = make_budget(PLAN, PLENTY)
    assert budget.nbytes == TOTAL == sum(line.nbytes for line in budget.lines)
    assert [(line.pool, line.slots, line.slot_bytes) for line in budget.lines] == [("ingress/0", 2, 16 * MIB), ("infer", 40, MIB)]
    budget.refuse()


def test_exactly_enough_is_enough_and_a_byte_less_is_not() -> None:
    make_budget(PLAN, replace(PLENTY, shm_free=TOTAL)).refuse()
    assert "free in /dev/shm" in refusal(PLAN, replace(PLENTY, shm_free=TOTAL - 1))


def test_the_refusal_has_the_sum_what_is_free_and_what_to_change() -> None:
    assert refusal(PLAN, MemoryLimits(shm_size=64 * MIB, shm_free=60 * MIB)) == (
        "the pipeline's shared memory of 72.0 MiB does not fit:\n"
        "  free in /dev/shm: 72.0 MiB are needed, 60.0 MiB allowed\n"
        "the largest pool is infer: 40 slots of 1.0 MiB; make it smaller with --set infer.credits=N, "
        "--set infer.batch.max_size=N or fewer ingress.slots,\n"
        "or give the container more, such as docker run --shm-size=145m"
    )


def test_a_large_ingress_is_told_apart() -> None:
    plan = replace(PLAN, pools=PLAN.pools[:1])
    assert "make it smaller with --set ingress.slots=N or a smaller max in inputs:" in refusal(plan, MemoryLimits(shm_free=1))


def test_no_dev_shm_at_all_is_too_little() -> None:
    assert "free in /dev/shm: 72.0 MiB are needed, 0 B allowed" in refusal(PLAN, MemoryLimits())


@pytest.mark.parametrize(
    ("memory", "line", "remedy"),
    [
        ({"file_size": LARGEST - 1}, "file size (ulimit -f): 40.0 MiB are needed, 40.0 MiB allowed", "or raise ulimit -f"),
        ({"address_space": 1024}, "address space (ulimit -v): 72.0 MiB are needed, 1.0 KiB allowed", "or raise ulimit -v"),
        ({"cgroup_headroom": 0}, "cgroup memory left: 72.0 MiB are needed, 0 B allowed", "or raise the container's memory limit"),
        ({"available": MIB}, "available memory: 72.0 MiB are needed, 1.0 MiB allowed", "or free memory on this host"),
    ],
)
def test_every_other_limit_refuses_by_its_name(memory: dict[str, int], line: str, remedy: str) -> None:
    message = refusal(PLAN, replace(PLENTY, **memory))
    assert f"\n  {line}\n" in message
    assert message.endswith(remedy)


def test_the_largest_file_need_not_hold_all_of_them() -> None:
    make_budget(PLAN, replace(PLENTY, file_size=LARGEST)).refuse()


def test_system_v_segments_have_limits_of_their_own() -> None:
    plan = replace(PLAN, segment_kind="sysv")
    make_budget(plan, MemoryLimits(shm_free=0, file_size=0)).refuse()
    assert "kernel.shmmax" in refusal(plan, MemoryLimits(sysv_segment=LARGEST - 1, sysv_total=TOTAL))
    assert "kernel.shmall" in refusal(plan, MemoryLimits(sysv_segment=LARGEST, sysv_total=TOTAL - 1))


def test_several_limits_are_told_at_once() -> None:
    message = refusal(PLAN, MemoryLimits(shm_free=1, available=1))
    assert message.count("are needed") == 2
    assert message.count("\nor ") == 2
