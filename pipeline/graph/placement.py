"""Placement: how many workers each stage gets, on which CPUs, with how many threads. Pure.

The rules, and why:

* What the config says wins: `replicas`, `cpus` (which must be CPUs that this process may use) and `threads`.
* `replicas: auto` is 1; for inference it is one a NUMA node, since weights and activations read across
  the socket link cost bandwidth on every batch. Of a stage that says `scales_with_cores` there is one for each core
  that light stages share, at most 4: the slots of more would not fit a container's 64 MiB of /dev/shm.
* A stage that runs on a GPU has one worker a GPU, with two cores for itself on the node that its GPU is
  plugged into: one for its loop, one for the threads of the driver and of ZeroMQ. GPUs are numbered in the
  order of their PCI bus ids, which its workers' environment tells CUDA too; CUDA_VISIBLE_DEVICES is heeded.
* With fewer than 4 cores nothing is bound: a light stage that is idle would keep its CPU from the
  model. The cores are divided among the models, and each has a worker of one thread for each of its cores, since
  two threads of one batch wait for each other if a core is taken from one of them, and two batches do not
  (measured: bench/NOTES.md, 2026-11-29). With `threads: N` said, it is a worker for each N of them.
* Under a quota (a cgroup's `cpu.max`) smaller than the CPUs, nothing is bound either: the CPUs belong
  to others too, and which of them are idle changes. The quota is then the number of CPUs; more threads
  would use it up in a burst and stand still for the rest of the period.
* Otherwise, on each node, light stages share a slice of a core a worker, at most a quarter of the node;
  each inference worker has an equal part of the other cores for itself. Cores are never split: two
  workers on hardware threads of one core would slow each other down.
* Threads: one a core of its own for inference (the second hardware thread of a core gains a matrix
  product nothing), one for every other stage, whose parallelism is its replicas.
* Stages that are colocated have the workers of the first of them, their host. What the host's config says holds;
  otherwise the most demanding of them decides where the process sits: a GPU before inference before the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from pipeline.config.findings import Findings
from pipeline.config.schema import AUTO, StageConfig, hosts_of
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import CUDA, WorkerPlan
from pipeline.topology.cpulist import format_cpu_list, parse_cpu_list
from pipeline.topology.machine import Machine

__all__ = ["GPU_CORES", "place_workers"]

_MIN_CORES_TO_BIND = 4
_LIGHT_SHARE = 4
_MOST_SCALED = 4
GPU_CORES = 2
"""Cores that a worker on a GPU has for itself."""

Core = tuple[int, ...]


class _Seat(msgspec.Struct, frozen=True):
    """A worker's CPUs and node; empty and None if it may run anywhere."""

    cpus: tuple[int, ...] = ()
    node: int | None = None


def place_workers(
    stages: Sequence[StageConfig],
    descriptions: Mapping[str, StageDescription],
    machine: Machine,
    findings: Findings,
    order: Sequence[str] = (),
) -> dict[str, tuple[WorkerPlan, ...]]:
    """The workers of each stage, by the stage's name; stages whose `cpus` are wrong are noted in `findings`.

    Args:
        order: of the graph; the names of colocated stages are shown in it. Default: as listed.
    """
    _check_gpus(stages, descriptions, machine, findings)
    findings.refuse()
    given = {stage.name: _given_cpus(index, stage, machine, findings) for index, stage in enumerate(stages)}
    hosts = hosts_of(stages)
    members = _members(order or list(hosts), hosts)
    descriptions = {
        host: max((descriptions[name] for name in names), key=_demand) for host, names in members.items()
    }
    stages = [stage for stage in stages if stage.name in members]
    chosen = _all_replicas(stages, descriptions, machine)
    replicas = {name: count for name, (count, _) in chosen.items()}
    seats: dict[tuple[str, int], _Seat] = {}
    heavy: list[tuple[str, int]] = []
    light: list[tuple[str, int]] = []
    near: dict[tuple[str, int], int | None] = {}
    gpus = machine.gpus
    for stage in stages:
        cpus, description = given[stage.name], descriptions[stage.name]
        for seat in ((stage.name, replica) for replica in range(replicas[stage.name])):
            if cpus:
                seats[seat] = _Seat(cpus, _node_of(cpus, machine))
            elif description.device == CUDA:
                near[seat] = gpus[seat[1] % len(gpus)].numa_node
            else:
                (heavy if description.is_inference else light).append(seat)
    taken = {cpu for cpus in given.values() for cpu in cpus}
    seats.update(_seats(heavy, light, near, taken, machine))
    workers = {
        stage.name: tuple(
            _worker(stage, replica, seats[stage.name, replica], descriptions[stage.name], machine, heavy, len(gpus))
            for replica in range(replicas[stage.name])
        )
        for stage in stages
    }
    return {
        name: tuple(
            replace(worker, process="+".join(members[host]), why=chosen[host][1]) for worker in workers[host]
        )
        for name, host in hosts.items()
    }


def _check_gpus(
    stages: Sequence[StageConfig], descriptions: Mapping[str, StageDescription], machine: Machine, findings: Findings
) -> None:
    """Note the stages that run on a GPU if there is none."""
    for index, stage in enumerate(stages):
        if descriptions[stage.name].device == CUDA and not machine.gpus:
            findings.add(("stages", index, "use"), f"it runs on a GPU with the options given; {machine.why_no_gpu}")


def _members(order: Sequence[str], hosts: Mapping[str, str]) -> dict[str, list[str]]:
    """For each host the stages that run in its workers, in order."""
    members: dict[str, list[str]] = {}
    for name in order:
        members.setdefault(hosts[name], []).append(name)
    return members


def _all_replicas(
    stages: Sequence[StageConfig], descriptions: Mapping[str, StageDescription], machine: Machine
) -> dict[str, tuple[int, str]]:
    """How many workers each stage has, and why."""
    models = sum(_is_model(descriptions[stage.name]) for stage in stages)
    return {stage.name: _replicas(stage, descriptions[stage.name], machine, models) for stage in stages}


def _demand(description: StageDescription) -> tuple[bool, bool]:
    return description.device == CUDA, description.is_inference


def _is_model(description: StageDescription) -> bool:
    """Whether the stage keeps many cores of the CPU busy."""
    return description.is_inference and description.device != CUDA


def _replicas(
    stage: StageConfig, description: StageDescription, machine: Machine, models: int
) -> tuple[int, str]:
    """How many workers a stage has, and why.

    Args:
        models: how many stages share the CPUs as models.
    """
    if stage.replicas != AUTO:
        return stage.replicas, "replicas: as the config says"
    if description.device == CUDA:
        return len(machine.gpus), "one for each GPU"
    if stage.cpus != AUTO:
        return 1, "one on the CPUs that the config names"
    cores = _count_cores(machine)
    if description.is_inference and cores < _MIN_CORES_TO_BIND:
        threads = stage.threads if isinstance(stage.threads, int) else 1
        each = "core" if threads == 1 else f"{threads} cores"
        among = f", divided among {models} models" if models > 1 else ""
        return max(1, cores // (models * threads)), f"a model: one for each {each} of {cores}{among}"
    if description.is_inference and machine.cpus.is_shared:
        return 1, "a model: one, since a quota limits the CPU time"
    if description.is_inference:
        return len(machine.nodes), "a model: one for each NUMA node, with the cores that light stages leave"
    if description.scales_with_cores:
        # If no model runs on the CPUs: all cores that GPUs leave.
        light = cores // _LIGHT_SHARE if models else cores - GPU_CORES * len(machine.gpus)
        which = f"a quarter of the {cores} cores" if models else f"the {cores} cores, less {GPU_CORES} for each GPU"
        why = f"it scales with cores: one for each of {which}, from 1 to {_MOST_SCALED}"
        return max(1, min(light, _MOST_SCALED)), why
    return 1, "one, as every stage that does not ask for more"


def _count_cores(machine: Machine) -> int:
    """Cores that may be used, or as much of a quota."""
    return min(machine.cpus.effective, len({machine.cpus.core(cpu) for cpu in machine.cpus.allowed}))


def _given_cpus(index: int, stage: StageConfig, machine: Machine, findings: Findings) -> tuple[int, ...]:
    if stage.cpus == AUTO:
        return ()
    path = ("stages", index, "cpus")
    try:
        cpus = parse_cpu_list(stage.cpus)
    except ValueError as error:
        findings.add(path, str(error))
        return ()
    if not cpus:
        findings.add(path, 'expected auto, or CPUs such as "0-3,8", found none')
    elif foreign := sorted(set(cpus) - set(machine.cpus.allowed)):
        findings.add(
            path,
            f"expected CPUs that this process may use ({format_cpu_list(machine.cpus.allowed)}), "
            f"found {format_cpu_list(foreign)}",
        )
    return cpus


def _node_of(cpus: tuple[int, ...], machine: Machine) -> int | None:
    """The node that holds all of `cpus`; None if they are on several."""
    return next((node.number for node in machine.nodes if set(cpus) <= set(node.cpus)), None)


def _seats(
    heavy: Sequence[tuple[str, int]],
    light: Sequence[tuple[str, int]],
    near: Mapping[tuple[str, int], int | None],
    taken: set[int],
    machine: Machine,
) -> dict[tuple[str, int], _Seat]:
    """Seats for the workers whose CPUs are not given; those in `near` run on GPUs, and sit on the node named."""
    nodes = {node.number: _cores(node.cpus, taken, machine) for node in machine.nodes}
    free = sum(len(cores) for cores in nodes.values())
    if machine.cpus.is_shared or free < _MIN_CORES_TO_BIND:
        return dict.fromkeys((*heavy, *light, *near), _Seat())
    seats: dict[tuple[str, int], _Seat] = {}
    for worker, wanted in near.items():
        # If firmware does not say which node a GPU is near to, the one with the most cores left.
        home = wanted if wanted in nodes else max(nodes, key=lambda node: (len(nodes[node]), -node))
        cores = nodes[home]
        # Never more than half of what is left: the other stages need some too.
        count = min(GPU_CORES, len(cores) // 2)
        seats[worker] = _Seat(_cpus(cores[:count] or cores), home)
        nodes[home] = cores[count:]
    heavy_on, light_on = _spread(heavy, nodes), _spread(light, nodes)
    for node, cores in nodes.items():
        for_light, for_heavy = _divide(cores, len(light_on[node]), len(heavy_on[node]))
        seats.update({worker: _Seat(_cpus(for_light), node) for worker in light_on[node]})
        seats.update({worker: _Seat(_cpus(part), node) for worker, part in zip(heavy_on[node], for_heavy)})
    return seats


def _cores(cpus: Sequence[int], taken: set[int], machine: Machine) -> list[Core]:
    """The cores of a node, each as its CPUs, without those that a config has given away."""
    cores: dict[int, list[int]] = {}
    for cpu in cpus:
        cores.setdefault(machine.cpus.core(cpu), []).append(cpu)
    return [tuple(core) for _, core in sorted(cores.items()) if not taken.intersection(core)]


def _spread(workers: Sequence[tuple[str, int]], nodes: Mapping[int, list[Core]]) -> dict[int, list[tuple[str, int]]]:
    """Give each worker to the node that has the most cores left for it."""
    on: dict[int, list[tuple[str, int]]] = {node: [] for node in nodes}
    for worker in workers:
        best = max(nodes, key=lambda node: (len(nodes[node]) / (len(on[node]) + 1), -node))
        on[best].append(worker)
    return on


def _divide(cores: list[Core], light: int, heavy: int) -> tuple[list[Core], list[list[Core]]]:
    """The cores that light workers share, and those of each inference worker."""
    if not heavy:
        return cores, []
    shared = min(light, max(1, len(cores) // _LIGHT_SHARE))
    if len(cores) - shared < heavy:  # not even a core for each: then all share all
        return cores, [cores] * heavy
    rest = cores[shared:]
    size, more = divmod(len(rest), heavy)
    parts = []
    start = 0
    for number in range(heavy):
        end = start + size + (number < more)
        parts.append(rest[start:end])
        start = end
    return cores[:shared], parts


def _cpus(cores: Sequence[Core]) -> tuple[int, ...]:
    return tuple(sorted(cpu for core in cores for cpu in core))


def _worker(
    stage: StageConfig,
    replica: int,
    seat: _Seat,
    description: StageDescription,
    machine: Machine,
    heavy: Sequence[tuple[str, int]],
    gpus: int,
) -> WorkerPlan:
    if isinstance(stage.threads, int):
        threads = stage.threads
    elif not description.is_inference or description.device == CUDA:
        threads = 1
    elif not seat.cpus:
        threads = max(1, machine.cpus.effective // len(heavy))
    else:
        # Workers of one stage whose CPUs are given share them.
        sharing = 1 if stage.cpus == AUTO else stage.replicas if isinstance(stage.replicas, int) else 1
        cores = len({machine.cpus.core(cpu) for cpu in seat.cpus})
        threads = max(1, min(cores // sharing, machine.cpus.effective))
    # OpenMP, and with it OpenBLAS and MKL, reads this once, when it is loaded; the default is every CPU.
    env = {"OMP_NUM_THREADS": str(threads)}
    device = "cpu"
    if description.device == CUDA:
        device = f"{CUDA}:{replica % gpus}"
        # CUDA's own order is by speed.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return WorkerPlan(stage.name, replica, seat.cpus, seat.node, threads, device, {**env, **stage.env})
