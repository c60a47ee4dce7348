"""Planning: config + what the stages declare + the machine -> Plan. Pure.

The graph is wired first (`wiring`), then workers are placed (`placement`), then slots are counted (`pools`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from pipeline.config.findings import Findings
from pipeline.config.loader import LoadedConfig
from pipeline.config.schema import PipelineConfig, SegmentsConfig, StageConfig, hosts_of
from pipeline.graph.broker import broker_of
from pipeline.graph.cameras import cameras_of, in_flight_of
from pipeline.graph.compiled import CompiledPlan
from pipeline.graph.description import StageDescription
from pipeline.graph.placement import place_workers
from pipeline.graph.plan import (
    BatchPlan,
    CanaryPlan,
    CapsulePlan,
    MetricsPlan,
    Plan,
    StagePlan,
    TracingPlan,
    WorkerPlan,
)
from pipeline.graph.pools import credits_of, ingress_slots, pools_of
from pipeline.graph.recording import recorded
from pipeline.graph.rows import rows_of
from pipeline.graph.slots import fields_of
from pipeline.graph.wiring import Wiring, wire
from pipeline.topology.machine import Machine

__all__ = ["make_plan"]

_SAID = sorted(StageConfig.model_fields.keys() & set(StagePlan.__struct_fields__))


def make_plan(loaded: LoadedConfig, descriptions: Mapping[str, StageDescription], machine: Machine) -> Plan:
    """The plan of a pipeline on a machine.

    Args:
        descriptions: one for each stage of the config, by its name.

    Raises:
        ConfigError: stages do not fit each other, or the machine; with where it was written.
    """
    config = loaded.config
    wiring = wire(loaded, descriptions)
    findings = loaded.findings()
    _check_batches(config.stages, descriptions, findings)
    workers = place_workers(config.stages, descriptions, machine, findings, wiring.order)
    findings.refuse()
    by_name = {stage.name: stage for stage in config.stages}
    hosts = hosts_of(config.stages)
    stages = tuple(
        _stage(by_name[name], descriptions[name], wiring, workers[name], by_name[hosts[name]]) for name in wiring.order
    )
    cameras = cameras_of(config.sources, loaded.inputs, findings)
    slots = ingress_slots(config.ingress.slots, stages, in_flight_of(cameras))
    in_parts = config.answer_each_child or any(description.parted for description in descriptions.values())
    rows = rows_of(config.ingress.rows, _max_batch_size(config), loaded.inputs, stages, in_parts)
    if rows.most < (config.ingress.rows or 1):
        findings.add(("ingress", "rows"), f"a request of this pipeline has one row: {rows.why}; leave it out")
    plan = Plan(
        name=config.name,
        config_path=str(loaded.path),
        base_dir=str(loaded.base_dir),
        inputs=loaded.inputs,
        stages=stages,
        outputs=wiring.outputs,
        sources=wiring.output_sources,
        answer_each_child=config.answer_each_child,
        pools=pools_of(loaded.inputs, stages, wiring, slots, rows.most),
        **_segments(config.segments),
        link=config.link,
        drain_s=config.drain_s,
        deadline_ms=config.deadline_ms,
        queue_max=config.queue.max,
        canary=None if config.canary is None else CanaryPlan(_canary_file(loaded), config.canary.every_s),
        metrics=None if config.metrics is None else MetricsPlan(config.metrics.port, config.metrics.host),
        tracing=_tracing(loaded),
        capsules=CapsulePlan(**config.capsules.model_dump()),
        max_batch_size=_max_batch_size(config),
        cameras=cameras,
        mqtt=broker_of(config.mqtt, config.sources, findings),
        in_parts=in_parts,
        rows=rows.most,
        why_rows=rows.why,
    )
    plan = replace(plan, cameras=recorded(plan, config.record, config.sources, findings))
    if config.serve.max_batch_size and not config.serve.batched:
        findings.add(
            ("serve", "max_batch_size"), "there is no batch axis without batched: true; add it, or leave this out"
        )
    if plan.in_parts and plan.max_batch_size:
        findings.add(("serve", "batched"), "its answers come in parts, which are no rows of a batch: leave it out")
    _check_parts(plan, config.stages, descriptions, findings)
    findings.refuse()
    return plan


def _segments(config: str | SegmentsConfig) -> dict[str, Any]:
    """The fields of a plan that say what its segments are."""
    if isinstance(config, str):
        return {"segment_kind": config}
    return {"segment_kind": "file", "segment_dir": config.dir, "group": config.group}


def _stage(
    stage: StageConfig,
    description: StageDescription,
    wiring: Wiring,
    workers: tuple[WorkerPlan, ...],
    host: StageConfig,
) -> StagePlan:
    """The plan of one stage.

    Args:
        host: the stage in whose workers it runs; itself if it has workers of its own.
    """
    found: dict[str, Any] = {
        "inputs": description.inputs,
        "edges": wiring.edges[stage.name],
        "sources": tuple(edge.producer for edge in wiring.sources[stage.name]),
        "after": wiring.after[stage.name],
        "outputs": description.outputs,
        "fields": fields_of(description.outputs),
        "batch": BatchPlan(**stage.batch.model_dump()),
        "credits": credits_of(stage, description.concurrency),
        "workers": workers,
        "max_restarts": host.restart.max,
        "restart_window_s": host.restart.per_s,
        "scope": wiring.scopes[stage.name],
        "when": wiring.when.get(stage.name),
        "ragged": description.ragged,
        "pad": description.pad,
        "host": host.name,
    }
    # Fields that planning does not compute are taken from the config: one that has the same name in both needs no line
    # here.
    said = {name: getattr(stage, name) for name in _SAID if name not in found}
    return StagePlan(**said, **found)


def _check_batches(
    stages: Sequence[StageConfig], descriptions: Mapping[str, StageDescription], findings: Findings
) -> None:
    """Refuse batches that are larger than a stage takes."""
    for index, stage in enumerate(stages):
        description = descriptions[stage.name]
        if description.max_batch is not None and stage.batch.max_size > description.max_batch:
            why = "".join(f": {note}" for note in description.notes)
            findings.add(
                ("stages", index, "batch", "max_size"),
                f"stage {stage.name} takes batches of at most {description.max_batch}, "
                f"found {stage.batch.max_size}{why}",
            )


def _check_parts(
    plan: Plan, stages: Sequence[StageConfig], descriptions: Mapping[str, StageDescription], findings: Findings
) -> None:
    """Refuse stages that would answer in parts, at a place where others read what they make."""
    if not any(description.parted for description in descriptions.values()):
        return
    may_part = {stage.name: stage.may_part for stage in CompiledPlan.of(plan).stages}
    for index, stage in enumerate(stages):
        if descriptions[stage.name].parted and not may_part[stage.name]:
            findings.add(
                ("stages", index),
                f"stage {stage.name}: process is a generator, which answers in parts; but its outputs go to other "
                f"stages too, or it runs behind one that fans out. Let it return what it yields, or put it last",
            )


def _max_batch_size(config: PipelineConfig) -> int:
    """Rows of the largest request that a gateway takes; 0: it shows no batch axis."""
    if not config.serve.batched:
        return 0
    return config.serve.max_batch_size or max([stage.batch.max_size for stage in config.stages])


def _canary_file(loaded: LoadedConfig) -> str:
    assert loaded.config.canary is not None
    return str(loaded.base_dir / loaded.config.canary.input)


def _tracing(loaded: LoadedConfig) -> TracingPlan | None:
    config = loaded.config.tracing
    if config is None:
        return None
    return TracingPlan(
        sample=config.sample, endpoint=config.endpoint or "", protocol=config.protocol or "",
        service=config.service or "", queue=config.queue,
        headers_file="" if config.headers_file is None else str(loaded.base_dir / config.headers_file),
    )  # fmt: skip
