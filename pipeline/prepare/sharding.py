"""From a config with several shards to a plan for each: the stages are asked once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pipeline.config.loader import LoadedConfig
from pipeline.config.shards import config_of_shard
from pipeline.errors import StartError
from pipeline.graph.shares import machine_of, shares_of, visible_to
from pipeline.prepare.describing import describe_stages
from pipeline.prepare.preparation import Preparation, prepare_loaded
from pipeline.topology.machine import Machine, read_machine
from pipeline.topology.memory import MemoryLimits

__all__ = ["PreparedShard", "prepare_shards"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class PreparedShard:
    """One shard that could be started, if its budget does not refuse."""

    prepared: Preparation
    environment: dict[str, str]
    """Variables that its processes get beside the supervisor's own."""


def prepare_shards(loaded: LoadedConfig, machine: Machine | None = None) -> list[PreparedShard]:
    """As `prepare_loaded`, for each shard of a config. The budget of a shard leaves those before it their memory.

    Raises:
        ConfigError, StartError: as `prepare_loaded`; StartError too if the shards do not fit together.
    """
    machine = machine or read_machine()
    descriptions = describe_stages(loaded)
    shards: list[PreparedShard] = []
    taken = 0
    for number, share in enumerate(shares_of(machine, loaded.config.shards)):
        part = replace(loaded, config=config_of_shard(loaded.config, number))
        own = replace(machine_of(machine, share), memory=_less(machine.memory, taken))
        prepared = prepare_loaded(part, own, descriptions, taken=taken)
        try:
            prepared.budget.refuse()
        except StartError as error:
            raise StartError(f"shard {number} of {loaded.config.shards}: {error}") from None
        taken += prepared.budget.nbytes
        visible = visible_to(share, machine, os.environ.get(_VISIBLE))
        shards.append(PreparedShard(prepared, {} if visible is None else {_VISIBLE: visible}))
    return shards


def _less(memory: MemoryLimits, taken: int) -> MemoryLimits:
    """What is left beside segments that take so many bytes."""

    def left(bytes_: int | None) -> int | None:
        return None if bytes_ is None else max(0, bytes_ - taken)

    return replace(
        memory,
        shm_free=left(memory.shm_free),
        available=left(memory.available),
        cgroup_headroom=left(memory.cgroup_headroom),
        sysv_total=left(memory.sysv_total),
    )
