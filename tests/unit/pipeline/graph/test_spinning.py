"""Receivers look before they sleep only if each process of the run has a core of its own."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.graph.plan import BatchPlan, CameraPlan, Plan, StagePlan, WorkerPlan
from pipeline.graph.spinning import why_no_spinning
from pipeline.topology.cpus import Cpus


def plan(*cpus: tuple[int, ...]) -> Plan:
    """One stage, of workers that are bound to these CPUs each."""
    workers = tuple(WorkerPlan("infer", number, bound) for number, bound in enumerate(cpus))
    stage = StagePlan("infer", "m:C", {}, (), (), (), (), (), BatchPlan(), 4, workers, host="infer")
    return Plan("demo", "demo.yaml", ".", inputs=(), stages=(stage,), outputs=(), pools=())


def test_workers_scheduler_and_client_need_a_cpu_each() -> None:
    assert why_no_spinning(plan((), ()), Cpus((0, 1, 2, 3))) == ""
    assert why_no_spinning(plan((), ()), Cpus((0, 1, 2))) == "4 processes, the client's included, on 3 CPUs"


def test_the_source_of_each_camera_needs_a_cpu_too() -> None:
    watched = replace(plan(()), cameras=(CameraPlan("door", "rtsp://door"),))
    assert why_no_spinning(watched, Cpus((0, 1, 2))) == "4 processes, the client's included, on 3 CPUs"
    assert why_no_spinning(watched, Cpus((0, 1, 2, 3))) == ""


def test_a_quota_counts_as_fewer_cpus() -> None:
    assert why_no_spinning(plan(()), Cpus(tuple(range(8)), quota=2.5)) == "3 processes, the client's included, on 2 CPUs"
    assert why_no_spinning(plan(()), Cpus(tuple(range(8)), quota=3.0)) == ""


def test_workers_that_are_bound_to_one_cpu_do_not_look_for_each_other() -> None:
    cpus = Cpus(tuple(range(16)))
    assert why_no_spinning(plan((4,), (4,)), cpus) == "2 processes are bound to 1 CPU (4)"
    assert why_no_spinning(plan((4, 5), (4,), (4, 5)), cpus) == "3 processes are bound to 2 CPUs (4-5)"
    assert why_no_spinning(plan((4, 5), (4,), (5, 6)), cpus) == ""


def test_stages_that_share_a_process_count_once() -> None:
    together = plan((),)
    stage = together.stages[0]
    both = replace(together, stages=(stage, replace(stage, name="score", after=("infer",))))
    assert both.processes == ((0, 1),)
    assert why_no_spinning(both, Cpus((0, 1, 2))) == ""
