"""From a config with several shards to a plan for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.loader import load_config
from pipeline.errors import StartError
from pipeline.prepare.sharding import prepare_shards
from pipeline.topology.gpus import Gpu
from pipeline.topology.machine import Machine, read_machine

CONFIG = """
inputs: [{name: tensor, dtype: uint8, shape: [4096]}]
shards: 2
ingress: {slots: 16}
stages: [{name: a, use: "stages.relay:Relay", with: {shape: [4096]}, replicas: 4}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def machine() -> Machine:
    return replace(read_machine(), gpus=())


def test_each_shard_has_a_plan_of_its_own_under_the_same_name(config: Path, machine: Machine) -> None:
    plans = [shard.prepared.plan for shard in prepare_shards(load_config(config), machine)]
    assert [plan.name for plan in plans] == ["relay", "relay"]
    assert [len(plan.stages[0].workers) for plan in plans] == [2, 2]


def test_the_shards_must_fit_together(config: Path, machine: Machine) -> None:
    (first, _) = prepare_shards(load_config(config), machine)
    needed = first.prepared.budget.nbytes
    fits = replace(machine, memory=replace(machine.memory, shm_free=2 * needed))
    assert len(prepare_shards(load_config(config), fits)) == 2
    short = replace(machine, memory=replace(machine.memory, shm_free=2 * needed - 1))
    with pytest.raises(StartError, match="shard 1 of 2: the pipeline's shared memory"):
        prepare_shards(load_config(config), short)


def test_each_shard_sees_its_own_gpus(config: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [shard.environment for shard in prepare_shards(load_config(config), machine)] == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    cards = replace(machine, gpus=(Gpu("0000:01:00.0", "H200", 0), Gpu("0000:02:00.0", "H200", 1)))
    found = [shard.environment for shard in prepare_shards(load_config(config), cards)]
    assert found == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"}]
