"""Which configs can be divided into shards, and what each shard gets of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.config.shards import config_of_shard
from pipeline.errors import ConfigError

CONFIG = """
inputs: [{name: data, dtype: uint8, shape: [4]}]
stages:
  - {name: a, use: "./a.py:A", replicas: 4}
  - {name: b, use: "./a.py:B"}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def loaded(config: Path, *assignments: str) -> LoadedConfig:
    return load_config(config, assignments)


def test_each_shard_gets_its_part_of_the_replicas_and_a_port_of_its_own(config: Path) -> None:
    whole = loaded(config, "shards=2", "metrics.port=9000").config
    parts = [config_of_shard(whole, number) for number in range(2)]
    assert [[stage.replicas for stage in part.stages] for part in parts] == [[2, "auto"]] * 2
    assert [part.metrics.port for part in parts if part.metrics] == [9000, 9001]
    assert [part.shards for part in parts] == [1, 1]
    assert whole.stages[0].replicas == 4


def test_a_port_of_metrics_that_the_system_chooses_stays_so(config: Path) -> None:
    part = config_of_shard(loaded(config, "shards=2", "metrics.port=0").config, 1)
    assert part.metrics is not None
    assert part.metrics.port == 0


@pytest.mark.parametrize(
    ("assignments", "found"),
    [
        (["shards=3"], r"stages\[0\]\.replicas: 4 replicas cannot be divided among 3 shards: expected a multiple of 3"),
        (["shards=2", "a.cpus=0-3"], r"stages\[0\]\.cpus: all 2 shards would be bound to the same CPUs: leave it out"),
        (["shards=2", "sources=[{name: door, url: scene://640x480}]"], "sources: the frames, tracks and recordings"),
        (["shards=2", "metrics.port=65535"], r"metrics\.port: .* expected at most 65534 for 2 shards"),
        (["shards=65"], "shards: expected at most 64, found 65"),
        (["shards=0"], "shards: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_what_to_do(config: Path, assignments: list[str], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        loaded(config, *assignments)


def test_one_shard_is_refused_nothing(config: Path) -> None:
    assert loaded(config, "a.replicas=3", "a.cpus=0-3", "metrics.port=65535").config.shards == 1
