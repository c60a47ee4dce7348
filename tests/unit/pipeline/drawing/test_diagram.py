"""A plan as boxes and arrows, and those as Mermaid."""

from __future__ import annotations

import pytest

from pipeline.drawing.diagram import AFTER, ANSWER, MANY, ONE, WHEN, Arrow, Box, Diagram, make_diagram
from pipeline.drawing.mermaid import to_mermaid
from pipeline.graph.plan import BatchPlan, Edge, Plan, StagePlan, When, WorkerPlan
from stages.spec import TensorSpec

PAGE = TensorSpec("page", "uint8", ("H", "W", 3), {"H": 960, "W": 960})
LINE = TensorSpec("line", "float32", (3, 48, "W"), {"W": 960})
LINES = TensorSpec("line", "float32", (3, 48, "W"), {"W": 960}, many=100)


def stage(
    name: str,
    inputs: dict[str, TensorSpec],
    outputs: tuple[TensorSpec, ...],
    *,
    after: tuple[str, ...] = (),
    replicas: int = 1,
    batch: int = 1,
    host: str | None = None,
    scope: tuple[str, ...] = (),
    when: When | None = None,
) -> StagePlan:
    return StagePlan(
        name, "m:C", {}, tuple(inputs.values()), tuple(Edge(*edge.split(".")) for edge in inputs), after, outputs, (),
        BatchPlan(batch), 4, tuple(WorkerPlan(name, replica) for replica in range(replicas)),
        scope=scope, when=when, host=host or name,
    )  # fmt: skip


@pytest.fixture(scope="module")
def diagram() -> Diagram:
    """Find lines, read each of them, join what was read; a stage that runs for wide pages only."""
    text, wide = TensorSpec.json("text", 512), TensorSpec("wide", "uint8", (1,))
    stages = (
        stage("find", {"ingress.page": PAGE}, (LINES, wide), replicas=2),
        stage("read", {"find.line": LINE}, (text,), after=("find",), batch=8, host="find", scope=("find",)),
        stage("grade", {"ingress.page": PAGE}, (wide,), after=("find", "read"), when=When(Edge("find", "wide"), True)),
        stage(
            "join",
            {
                "read.text": TensorSpec.json("text", 512, many=100),
                "grade.wide": TensorSpec("wide", "uint8", (1,), optional=True),
                "find.wide": wide,
            },
            (text,),
            after=("find", "read", "grade"),
        ),
    )
    outputs = (("text", Edge("join", "text")), ("crops", Edge("find", "line")))
    return make_diagram(Plan("demo", "demo.yaml", ".", (PAGE,), stages, outputs, ()))


def test_boxes_say_what_is_special_about_a_stage(diagram: Diagram) -> None:
    assert diagram.boxes == (
        Box("ingress", ("ingress",)),
        Box("find", ("find", "m:C", "2 replicas"), group="find"),
        Box("read", ("read", "m:C", "batches of up to 8", "for each child of find"), group="find"),
        Box("grade", ("grade", "m:C")),
        Box("join", ("join", "m:C")),
        Box(ANSWER, ("answer",)),
    )
    assert diagram.groups == ("find",)


def test_arrows_say_what_goes_along_them(diagram: Diagram) -> None:
    page = "page uint8 [H≤960, W≤960, 3]"
    assert diagram.arrows == (
        Arrow("ingress", "find", ONE, (page,)),
        Arrow("find", "read", MANY, ("each line float32 [3, 48, W≤960], up to 100",)),
        Arrow("ingress", "grade", ONE, (page,)),
        Arrow("find", "grade", WHEN, ("when: not find.wide",)),
        Arrow("read", "grade", AFTER, ("after",)),
        Arrow("read", "join", MANY, ("all text json [bytes≤512], up to 100",)),
        Arrow("grade", "join", ONE, ("wide uint8 [1], may be missing",)),
        Arrow("find", "join", ONE, ("wide uint8 [1]",)),
        Arrow("join", ANSWER, ONE, ("text json [bytes≤512]",)),
        Arrow("find", ANSWER, MANY, ("crops = all line float32 [3, 48, W≤960], up to 100",)),
    )


def test_tensors_between_the_same_two_share_an_arrow() -> None:
    a, b = TensorSpec("a", "uint8", (1,)), TensorSpec("b", "uint8", (2,))
    stages = (stage("one", {"ingress.a": a, "ingress.b": b}, (a, b)),)
    plan = Plan("demo", "demo.yaml", ".", (a, b), stages, (("a", Edge("one", "a")), ("b", Edge("one", "b"))), ())
    assert make_diagram(plan).arrows == (
        Arrow("ingress", "one", ONE, ("a uint8 [1]", "b uint8 [2]")),
        Arrow("one", ANSWER, ONE, ("a uint8 [1]", "b uint8 [2]")),
    )


def test_mermaid_has_a_frame_around_a_process_and_a_line_of_its_own_for_each_kind(diagram: Diagram) -> None:
    assert to_mermaid(diagram) == """\
flowchart TB
    ingress(["ingress"])
    subgraph s1_find_process ["one process"]
        s1_find["find<br/>m:C<br/>2 replicas"]
        s2_read["read<br/>m:C<br/>batches of up to 8<br/>for each child of find"]
    end
    s3_grade["grade<br/>m:C"]
    s4_join["join<br/>m:C"]
    answer(["answer"])
    ingress -->|"page uint8 [H≤960, W≤960, 3]"| s1_find
    s1_find ==>|"each line float32 [3, 48, W≤960], up to 100"| s2_read
    ingress -->|"page uint8 [H≤960, W≤960, 3]"| s3_grade
    s1_find -.->|"when: not find.wide"| s3_grade
    s2_read -.->|"after"| s3_grade
    s2_read ==>|"all text json [bytes≤512], up to 100"| s4_join
    s3_grade -->|"wide uint8 [1], may be missing"| s4_join
    s1_find -->|"wide uint8 [1]"| s4_join
    s4_join -->|"text json [bytes≤512]"| answer
    s1_find ==>|"crops = all line float32 [3, 48, W≤960], up to 100"| answer
"""


def test_names_that_mean_something_to_mermaid_do_no_harm() -> None:
    boxes = (Box("ingress", ("ingress",)), Box("end", ("end", './a "b"<c>#.py:D')), Box("a-b", ("a-b",)), Box(ANSWER, ("answer",)))
    lines = to_mermaid(Diagram(boxes, (Arrow("end", "a-b", ONE, ("x",)),))).splitlines()
    assert lines[2] == '    s1_end["end<br/>./a #quot;b#quot;#lt;c#gt;#35;.py:D"]'
    assert lines[-1] == '    s1_end -->|"x"| s2_a_b'
