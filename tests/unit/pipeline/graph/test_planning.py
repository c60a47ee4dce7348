"""A whole plan: what ends up in it, and that it survives the way to other processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.errors import ConfigError
from pipeline.graph.budget import make_budget
from pipeline.graph.description import StageDescription
from pipeline.graph.plan import BatchPlan, Plan
from pipeline.graph.planning import make_plan
from pipeline.topology.cpus import Cpus
from pipeline.topology.machine import Machine
from pipeline.topology.memory import MemoryLimits
from pipeline.topology.numa import NumaNode
from stages.spec import TensorSpec

Load = Callable[..., LoadedConfig]
MACHINE = Machine(Cpus(tuple(range(8))), (NumaNode(0, tuple(range(8))),))

STAGES = """\
- name: post
  use: m:Post
  inputs: [net.prob]
- name: net
  use: m:Net
  with: {deep: {a: [1, 2.5, null, "x"]}}
  inputs: [ingress.image]
  replicas: 2
  batch: {max_size: 8, max_delay_ms: 2}
  env: {KEY: value}
outputs: {best: post.label}
segments: sysv
drain_s: 3
"""


@pytest.fixture
def plan(load: Load, describe: Callable[..., StageDescription]) -> Plan:
    descriptions = {
        "post": describe("prob float32 10 -> label json 30"),
        "net": describe("image uint8 4 -> prob float32 10", inference=True),
    }
    return make_plan(load(STAGES), descriptions, MACHINE)


def test_the_plan_holds_what_the_config_says(plan: Plan) -> None:
    assert (plan.name, plan.segment_kind, plan.drain_s) == ("demo", "sysv", 3.0)
    assert [stage.name for stage in plan.stages] == ["net", "post"]
    net = plan.stage("net")
    assert (net.use, net.options, net.batch, net.credits) == ("m:Net", {"deep": {"a": [1, 2.5, None, "x"]}}, BatchPlan(8, 2.0), 16)
    assert [worker.title for worker in net.workers] == ["net/0", "net/1"]
    assert net.workers[0].env["KEY"] == "value"
    assert plan.outputs[0][0] == "best"
    assert [pool.name for pool in plan.pools] == ["ingress/0", "net", "post"]


def test_what_planning_finds_nothing_out_about_is_as_the_config_has_it(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    stages = "- {name: net, use: m:Net, timeout_ms: 250, with: {deep: 1}, batch: {max_size: 3, gather: false}}\n"
    found = make_plan(load(stages), {"net": describe("image uint8 4 -> prob float32 10")}, MACHINE).stage("net")
    assert (found.timeout_ms, found.options, found.batch) == (250.0, {"deep": 1}, BatchPlan(3, 0.0, False))


def read(text: str) -> Plan:
    """The plan in a text, as a child process reads it out of its boot document."""
    return msgspec.convert(json.loads(text), Plan)


def test_a_text_that_is_no_plan_is_refused_with_the_path_of_what_does_not_fit(plan: Plan) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\.stages\[0\]\.credits`"):
        read(plan.to_json().replace('"credits": 16', '"credits": "16"', 1))


def test_the_plan_survives_the_way_to_another_process(plan: Plan) -> None:
    assert read(plan.to_json()) == plan


def test_every_edge_of_the_plan_has_a_spec(plan: Plan) -> None:
    for stage in plan.stages:
        for spec, edge in zip(stage.inputs, stage.edges):
            assert spec.misfit_of_edge(plan.output_spec(edge)) is None
    assert plan.output_spec(plan.outputs[0][1]).name == "label"


def test_wrong_cpus_stop_the_planning(load: Load, described: Callable[..., Any]) -> None:
    loaded = load('- {name: a, use: m:C, cpus: "9"}\n')
    with pytest.raises(ConfigError, match=r"stages\[0\]\.cpus: expected CPUs that this process may use \(0-7\), found 9"):
        make_plan(loaded, described(a="image uint8 4 -> y int8 1"), MACHINE)


def test_colocated_stages_share_their_processes(load: Load, described: Callable[..., Any]) -> None:
    loaded = load(
        "- {name: last, use: m:C, inputs: [a.y], replicas: 2, restart: {max: 1, per_s: 2}}\n"
        "- {name: a, use: m:C, inputs: [ingress.image], colocate: true, timeout_ms: 5}\n"
        "- {name: b, use: m:C, inputs: [last.z]}\n"
    )
    plan = make_plan(
        loaded,
        described(last="y int8 1 -> z int8 1", a="image uint8 4 -> y int8 1", b="z int8 1 -> w int8 1"),
        MACHINE,
    )
    assert [(stage.name, stage.host) for stage in plan.stages] == [("a", "last"), ("last", "last"), ("b", "b")]
    assert plan.processes == ((0, 1), (2,))
    # Called in the order of the graph, though the host is listed first.
    assert [worker.title for worker in plan.stage("a").workers] == ["a+last/0", "a+last/1"]
    assert plan.stage("a").workers == plan.stage("last").workers
    assert [(stage.max_restarts, stage.timeout_ms) for stage in plan.stages] == [(1, 5.0), (1, None), (5, None)]
    assert read(plan.to_json()).processes == plan.processes


@pytest.mark.parametrize("cpus", [1, 8, 64])
def test_the_resnet_config_fits_a_containers_usual_dev_shm(describe: Callable[..., StageDescription], cpus: int) -> None:
    loaded = load_config(Path(__file__).parents[4] / "configs" / "resnet.yaml")
    descriptions = {
        "preprocess": StageDescription(loaded.inputs, (TensorSpec("image", "float32", (224, 224, 3)),)),
        "inference": describe("x float32 224 224 3 -> scores float32 2", inference=True),
        "postprocess": describe("s float32 2 -> labels json 14, scores float32 2"),
    }
    everything = tuple(range(cpus))
    plan = make_plan(loaded, descriptions, Machine(Cpus(everything), (NumaNode(0, everything),)))
    assert plan.pools[-4].slot_bytes == 16 << 20  # the largest of the ingress takes the largest file
    make_budget(plan, MemoryLimits(shm_free=64 << 20)).refuse()


def test_a_batch_larger_than_a_stage_takes_is_refused_where_it_stands_and_says_why(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    loaded = load(
        "- {name: net, use: m:Net, inputs: [ingress.image], batch: {max_size: 4}}\noutputs: [net.found]\n"
    )
    detector = replace(
        describe("image uint8 4 -> found float32 9", inference=True), max_batch=1, notes=("net.onnx: output found",)
    )
    with pytest.raises(
        ConfigError, match=r"demo\.yaml:3:\d+: .*takes batches of at most 1, found 4: net\.onnx: output found"
    ):
        make_plan(loaded, {"net": detector}, MACHINE)
    one = load("- {name: net, use: m:Net, inputs: [ingress.image]}\noutputs: [net.found]\n")
    assert make_plan(one, {"net": detector}, MACHINE).stage("net").batch.max_size == 1


def _parted(description: StageDescription) -> StageDescription:
    return replace(description, parted=True)


def test_a_generator_may_be_the_last_stage(load: Load, describe: Callable[..., StageDescription]) -> None:
    loaded = load("- {name: say, use: m:Say, inputs: [ingress.image]}\noutputs: [say.word]\n")
    make_plan(loaded, {"say": _parted(describe("image uint8 4 -> word json 30"))}, MACHINE)


def test_a_generator_before_another_stage_is_refused_at_its_line(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    loaded = load("- {name: say, use: m:Say, inputs: [ingress.image]}\n- {name: read, use: m:Read}\n")
    descriptions = {
        "say": _parted(describe("image uint8 4 -> word uint8 4")),
        "read": describe("word uint8 4 -> text json 30"),
    }
    why = r"demo\.yaml:3:\d+: .*stage say: process is a generator, which answers in parts; but its outputs go to other"
    with pytest.raises(ConfigError, match=why):
        make_plan(loaded, descriptions, MACHINE)


def test_a_generator_behind_a_fan_out_is_refused_at_its_line(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    loaded = load(
        "- {name: cut, use: m:Cut, inputs: [ingress.image]}\n- {name: say, use: m:Say}\n- {name: join, use: m:Join}\n"
    )
    cut, say, join = (describe(f"{a} uint8 4 -> {b} uint8 4") for a, b in ("xy", "yz", "zw"))
    cut = replace(cut, inputs=(replace(cut.inputs[0], name="image"),), outputs=(replace(cut.outputs[0], many=9),))
    join = replace(join, inputs=(replace(join.inputs[0], many=9),))
    with pytest.raises(ConfigError, match=r"demo\.yaml:4:\d+: .*stage say: .*or it runs behind one that fans out"):
        make_plan(loaded, {"cut": cut, "say": _parted(say), "join": join}, MACHINE)


def test_the_plan_says_whether_each_child_is_answered_by_itself(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    loaded = load("- {name: cut, use: m:Cut, inputs: [ingress.image]}\n- {name: say, use: m:Say}\nanswer_each_child: true\n")
    cut = describe("image uint8 4 -> y uint8 4")
    cut = replace(cut, outputs=(replace(cut.outputs[0], many=9),))
    plan = make_plan(loaded, {"cut": cut, "say": describe("y uint8 4 -> z uint8 4")}, MACHINE)
    assert plan.answer_each_child
    assert read(plan.to_json()).answer_each_child


def test_rows_that_cannot_go_together_are_refused_where_they_are_asked_for(
    load: Load, describe: Callable[..., StageDescription]
) -> None:
    text = "- {name: net, use: m:Net, inputs: [ingress.image]}\noutputs: [net.found]\ningress: {rows: 8}\n"
    plan = make_plan(load(text), {"net": describe("image uint8 4 -> found float32 9")}, MACHINE)
    assert (plan.rows, plan.why_rows) == (8, "ingress.rows says so")
    with pytest.raises(ConfigError, match=r"demo\.yaml:\d+:\d+: .*one row: found of stage net is not of one size"):
        make_plan(load(text), {"net": describe("image uint8 4 -> found json 30")}, MACHINE)
