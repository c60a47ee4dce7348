"""Shards: which configs can be divided, and the config of each part. Pure."""

from __future__ import annotations

from pipeline.config.findings import Findings
from pipeline.config.schema import AUTO, PipelineConfig

__all__ = ["check_shards", "config_of_shard"]

_LAST_PORT = 65_535


def check_shards(config: PipelineConfig, findings: Findings) -> None:
    """Check that a config with several shards can be divided among them."""
    shards = config.shards
    if shards == 1:
        return
    for index, stage in enumerate(config.stages):
        if stage.replicas != AUTO and int(stage.replicas) % shards:
            findings.add(
                ("stages", index, "replicas"),
                f"{stage.replicas} replicas cannot be divided among {shards} shards: expected a multiple of {shards}, "
                f"or auto",
            )
        if stage.cpus != AUTO:
            findings.add(
                ("stages", index, "cpus"),
                f"all {shards} shards would be bound to the same CPUs: leave it out, each shard has its own part of "
                f"the CPUs",
            )
    if config.sources:
        findings.add(
            ("sources",),
            f"the frames, tracks and recordings of cameras are one scheduler's: expected shards: 1 beside them, found "
            f"{shards}; or a config of its own for a part of the cameras",
            at_key=True,
        )
    if config.metrics is not None and config.metrics.port + shards - 1 > _LAST_PORT:
        findings.add(
            ("metrics", "port"),
            f"shard N has the port behind it by N: expected at most {_LAST_PORT - shards + 1} for {shards} shards",
        )


def config_of_shard(config: PipelineConfig, number: int) -> PipelineConfig:
    """The part of a config that one shard runs: its share of the replicas, and a port of its own for metrics.

    Args:
        config: one that `check_shards` finds nothing in.
        number: of the shard, from 0.
    """
    shards = config.shards
    stages = tuple(
        stage if stage.replicas == AUTO else stage.model_copy(update={"replicas": int(stage.replicas) // shards})
        for stage in config.stages
    )
    metrics = config.metrics
    if metrics is not None and metrics.port:
        metrics = metrics.model_copy(update={"port": metrics.port + number})
    return config.model_copy(update={"stages": stages, "metrics": metrics, "shards": 1})
