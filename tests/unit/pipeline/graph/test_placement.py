"""Which worker sits where: on one CPU, on a laptop, on two sockets, under a quota."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.graph.description import StageDescription
from pipeline.graph.placement import place_workers
from pipeline.graph.plan import WorkerPlan
from pipeline.topology.cpulist import format_cpu_list
from pipeline.topology.cpus import Cpus
from pipeline.topology.machine import Machine
from pipeline.topology.numa import NumaNode

Place = Callable[..., dict[str, tuple[WorkerPlan, ...]]]


def machine(count: int, quota: float | None = None) -> Machine:
    """One node of CPUs without hardware threads."""
    return Machine(Cpus(tuple(range(count)), quota), (NumaNode(0, tuple(range(count))),))


def two_sockets() -> Machine:
    """128 CPUs: cores 0-31 and 32-63 on two nodes, their second threads 64-95 and 96-127."""
    return Machine(
        Cpus(tuple(range(128)), cores={cpu: cpu % 64 for cpu in range(128)}),
        (NumaNode(0, (*range(32), *range(64, 96))), NumaNode(1, (*range(32, 64), *range(96, 128)))),
    )


@pytest.fixture
def place(load: Callable[[str], LoadedConfig], describe: Callable[..., StageDescription]) -> Place:
    """Place `pre`, `infer` and `post`; arguments are what their stages say."""

    def place(
        on: Machine, pre: str = "", infer: str = "", post: str = "", models: tuple[str, ...] = ("infer",)
    ) -> dict[str, tuple[WorkerPlan, ...]]:
        said = {"pre": pre, "infer": infer, "post": post}
        loaded = load("".join(f"- {{name: {name}, use: 'm:C', {text}}}\n" for name, text in said.items()))
        descriptions = {name: describe("x int8 1 -> x int8 1", inference=name in models) for name in said}
        descriptions["pre"] = replace(descriptions["pre"], scales_with_cores=True)
        findings = loaded.findings()
        placed = place_workers(loaded.config.stages, descriptions, on, findings)
        findings.refuse()
        return placed

    return place


def seats(workers: tuple[WorkerPlan, ...]) -> list[tuple[str, int | None, int]]:
    return [(format_cpu_list(worker.cpus), worker.numa_node, worker.threads) for worker in workers]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_on_few_cpus_nothing_is_bound_and_the_model_has_a_worker_of_one_thread_for_each(place: Place, count: int) -> None:
    placed = place(machine(count), post="replicas: 2")
    assert seats(placed["pre"]) == [("", None, 1)]
    assert seats(placed["post"]) == [("", None, 1)] * 2
    assert seats(placed["infer"]) == [("", None, 1)] * count


def test_several_models_on_few_cpus_divide_them(place: Place) -> None:
    assert seats(place(machine(3), infer="replicas: 2")["infer"]) == [("", None, 1)] * 2
    assert seats(place(machine(1), infer="replicas: 2")["infer"]) == [("", None, 1)] * 2
    placed = place(machine(2), models=("infer", "post"))
    assert (seats(placed["infer"]), seats(placed["post"])) == ([("", None, 1)], [("", None, 1)])
    placed = place(machine(3), models=("infer", "post"))
    assert (len(placed["infer"]), len(placed["post"])) == (1, 1)


def test_wider_workers_on_few_cpus_are_fewer(place: Place) -> None:
    assert seats(place(machine(3), infer="threads: 2")["infer"]) == [("", None, 2)]
    assert seats(place(machine(2), infer="threads: 4")["infer"]) == [("", None, 4)]
    # As it was said: one worker has all of them.
    assert seats(place(machine(2), infer="replicas: 1")["infer"]) == [("", None, 2)]


def test_hardware_threads_of_one_core_are_one_core(place: Place) -> None:
    on = Machine(Cpus((0, 1, 2, 3), cores={0: 0, 1: 0, 2: 2, 3: 2}), (NumaNode(0, (0, 1, 2, 3)),))
    assert len(place(on)["infer"]) == 2


@pytest.mark.parametrize(
    ("on", "decoders", "models"),
    [
        (machine(1), 1, 1),
        (machine(2), 1, 2),
        (machine(4), 1, 1),
        (machine(8), 2, 1),
        (machine(16), 4, 1),
        (machine(64), 4, 1),
        (two_sockets(), 4, 2),
        (machine(128, quota=1.5), 1, 1),
        (machine(128, quota=2.5), 1, 2),
        (machine(128, quota=8.0), 2, 1),
    ],
    ids=["1", "2", "4", "8", "16", "64", "two sockets", "quota 1.5", "quota 2.5", "quota 8"],
)
def test_what_scales_follows_the_cores_and_what_does_not_has_one(
    place: Place, on: Machine, decoders: int, models: int
) -> None:
    placed = place(on)
    assert (len(placed["pre"]), len(placed["infer"]), len(placed["post"])) == (decoders, models, 1)


def test_without_a_model_what_scales_has_the_cores_for_itself(place: Place) -> None:
    assert len(place(machine(3), models=())["pre"]) == 3
    assert len(place(machine(16), models=())["pre"]) == 4


def test_what_scales_is_not_multiplied_on_cpus_that_are_given(place: Place) -> None:
    assert len(place(machine(16), pre='cpus: "0-7"')["pre"]) == 1
    assert len(place(machine(16), pre="replicas: 3")["pre"]) == 3


def test_on_eight_cpus_light_stages_share_a_quarter_and_the_model_has_the_rest(place: Place) -> None:
    placed = place(machine(8), pre="replicas: 2")
    assert seats(placed["pre"]) == [("0-1", 0, 1)] * 2
    assert seats(placed["post"]) == [("0-1", 0, 1)]
    assert seats(placed["infer"]) == [("2-7", 0, 6)]


def test_models_on_one_node_have_disjoint_parts(place: Place) -> None:
    assert seats(place(machine(16), pre="replicas: 1", infer="replicas: 3")["infer"]) == [("2-6", 0, 5), ("7-11", 0, 5), ("12-15", 0, 4)]


def test_more_models_than_cores_share_the_node(place: Place) -> None:
    placed = place(machine(4), infer="replicas: 5")
    assert seats(placed["infer"]) == [("0-3", 0, 4)] * 5
    assert seats(placed["pre"]) == [("0-3", 0, 1)]


def test_two_sockets_have_a_model_each_and_cores_stay_whole(place: Place) -> None:
    placed = place(two_sockets(), pre="replicas: 4")
    assert [worker.title for worker in placed["infer"]] == ["infer/0", "infer/1"]
    # Node 0 has pre/0, pre/2 and post/0, so three cores with both of their threads are theirs.
    assert seats(placed["pre"]) == [("0-2,64-66", 0, 1), ("32-33,96-97", 1, 1)] * 2
    assert seats(placed["post"]) == [("0-2,64-66", 0, 1)]
    assert seats(placed["infer"]) == [("3-31,67-95", 0, 29), ("34-63,98-127", 1, 30)]


def test_a_quota_binds_nothing_and_caps_the_threads(place: Place) -> None:
    placed = place(machine(128, quota=6.5), pre="replicas: 2")
    assert seats(placed["pre"]) == [("", None, 1)] * 2
    assert seats(placed["infer"]) == [("", None, 6)]


def test_a_quota_on_two_sockets_does_not_multiply_the_models(place: Place) -> None:
    big = two_sockets()
    placed = place(Machine(Cpus(big.cpus.allowed, 4.0, big.cpus.cores), big.nodes))
    assert seats(placed["infer"]) == [("", None, 4)]


def test_what_the_config_says_wins_and_is_left_out_of_what_others_get(place: Place) -> None:
    placed = place(machine(12), pre='cpus: "0-2"', infer="threads: 3", post='cpus: "3"')
    assert seats(placed["pre"]) == [("0-2", 0, 1)]
    assert seats(placed["post"]) == [("3", 0, 1)]
    assert seats(placed["infer"]) == [("4-11", 0, 3)]


def test_replicas_share_the_cpus_that_are_given(place: Place) -> None:
    assert seats(place(machine(8), infer='cpus: "0-7", replicas: 2')["infer"]) == [("0-7", 0, 4)] * 2
    assert seats(place(two_sockets(), infer='cpus: "0-127"')["infer"]) == [("0-127", None, 64)]


def test_threads_of_given_cpus_stay_below_the_quota(place: Place) -> None:
    assert seats(place(machine(8, quota=2.0), infer='cpus: "0-7"')["infer"]) == [("0-7", 0, 2)]


def test_openmp_is_told_unless_the_config_tells_it(place: Place) -> None:
    placed = place(machine(8), pre="env: {OMP_NUM_THREADS: '7', A: b}")
    assert placed["pre"][0].env == {"OMP_NUM_THREADS": "7", "A": "b"}
    assert placed["infer"][0].env == {"OMP_NUM_THREADS": "6"}


@pytest.mark.parametrize(
    ("cpus", "complaint"),
    [
        ("2-9", "expected CPUs that this process may use (0-3), found 4-9"),
        ("x", "expected CPUs such as \"0-3,8\", found 'x' in 'x'"),
        ("", 'expected auto, or CPUs such as "0-3,8", found none'),
    ],
)
def test_cpus_that_may_not_be_used_are_named(place: Place, tmp_path: Path, cpus: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        place(machine(4), pre=f'cpus: "{cpus}"')
    assert str(caught.value).replace(f"{tmp_path}/", "") == f"demo.yaml:3:33: stages[0].cpus: {complaint}"


# -- colocated stages ---------------------------------------------------------------------------------


def test_a_colocated_stage_has_the_workers_of_its_host(place: Place) -> None:
    placed = place(machine(8), pre="replicas: 2, threads: 3, env: {A: b}", infer="", post="")
    alone = placed["pre"]
    placed = place(machine(8), pre="replicas: 2, threads: 3, env: {A: b}", infer="colocate: true", post="")
    assert placed["infer"] == placed["pre"]
    assert [worker.title for worker in placed["pre"]] == ["pre+infer/0", "pre+infer/1"]
    assert [(worker.threads, worker.env["A"]) for worker in placed["pre"]] == [(3, "b")] * 2 == [
        (worker.threads, worker.env["A"]) for worker in alone
    ]
    assert [worker.title for worker in placed["post"]] == ["post/0"]


def test_a_process_sits_where_the_most_demanding_of_its_stages_would(place: Place) -> None:
    placed = place(two_sockets(), infer="colocate: true", post="colocate: true")
    # One a node, for the model's sake; no other stage wants a core.
    assert seats(placed["post"]) == [("0-31,64-95", 0, 32), ("32-63,96-127", 1, 32)]
    assert [worker.title for worker in placed["post"]] == ["pre+infer+post/0", "pre+infer+post/1"]
    # A light stage takes no cores of its own if it shares those of a model.
    assert seats(place(machine(8), pre="replicas: 1", post="colocate: true")["infer"]) == [("1-7", 0, 7)]
