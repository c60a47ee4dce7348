from __future__ import annotations

from pipeline.graph.copying import PossibleCopy, edge_name, order_of, possible_copies
from pipeline.graph.plan import BatchPlan, Edge, Plan, PoolPlan, StagePlan
from pipeline.graph.slots import fields_of, slot_bytes
from shm.pool import RING, STACK
from stages.copies import DECODED, ENCODED, GAPS, GATHERED, INPUT, OUTPUT, PADDED, SCATTERED, SHAPE_UNKNOWN
from stages.spec import TensorSpec

FILE = TensorSpec("file", "uint8", ("bytes",), {"bytes": 128})
IMAGE = TensorSpec("image", "uint8", (8, 8))
SCORES = TensorSpec("scores", "float32", (10,))
LABELS = TensorSpec.json("labels", 64)
LINES = TensorSpec("lines", "uint8", (4, "W"), {"W": 32}, many=5)


def stage(
    name: str, inputs: dict[str, TensorSpec], outputs: tuple[TensorSpec, ...], *, size: int = 1, gather: bool = True,
    ragged: bool = False, pad: dict[str, int] | None = None,
) -> StagePlan:  # fmt: skip
    return StagePlan(
        name=name, use="m:C", options={}, inputs=tuple(inputs.values()),
        edges=tuple(Edge(producer, spec.name) for producer, spec in inputs.items()), after=(), outputs=outputs,
        fields=fields_of(outputs), batch=BatchPlan(size, 1.0, gather), credits=4, workers=(), ragged=ragged, pad=pad or {},
    )  # fmt: skip


def plan_of(*stages: StagePlan) -> Plan:
    pools = [PoolPlan("ingress/0", 128, 8), *(PoolPlan(s.name, slot_bytes(s.fields), 8) for s in stages if s.fields)]
    return Plan("p", "", "", (FILE,), stages, (), tuple(pools))


def classifier(**infer: object) -> Plan:
    return plan_of(
        stage("decode", {"ingress": FILE}, (IMAGE,), ragged=True),
        stage("infer", {"decode": IMAGE}, (SCORES,), **infer),  # type: ignore[arg-type]
        stage("top", {"infer": SCORES}, (LABELS,)),
    )


def found(plan: Plan) -> list[tuple[str, str]]:
    return [(copy.edge, copy.reason) for copy in possible_copies(plan)]


def test_an_edge_is_named_by_both_ends_and_an_output_by_its_stage() -> None:
    infer = classifier().stages[1]
    assert edge_name(infer, INPUT, "image") == "decode.image -> infer.image"
    assert edge_name(infer, OUTPUT, "scores") == "infer.scores"


def test_without_batches_nothing_can_be_copied() -> None:
    assert possible_copies(classifier()) == ()


def test_a_batch_may_be_gathered_and_scattered_and_what_does_not_fill_its_slot_has_gaps() -> None:
    assert possible_copies(classifier(size=4)) == (
        PossibleCopy("decode.image -> infer.image", GATHERED, "if rows of a batch do not lie side by side"),
        PossibleCopy("infer.scores", SCATTERED, "if rows of a batch do not lie side by side"),
        PossibleCopy("infer.scores", GAPS, "if the stage needs rows without gaps: scores takes 40 of the 64 bytes of its slot"),
    )


def test_where_nothing_is_gathered_only_gaps_are_left() -> None:
    assert found(classifier(size=4, gather=False)) == [("infer.scores", GAPS)]


def test_a_ragged_stage_looks_at_each_row_by_itself() -> None:
    assert found(classifier(size=4, ragged=True)) == []


def test_free_shapes_have_gaps_may_be_padded_and_are_known_to_the_model_alone() -> None:
    page = TensorSpec("page", "uint8", ("H", "W"), {"H": 64, "W": 64})
    plan = plan_of(
        stage("decode", {"ingress": FILE}, (page,), ragged=True),
        stage("infer", {"decode": page}, (page,), size=2, gather=False, pad={"W": 32}),
    )
    assert found(plan) == [
        ("decode.page -> infer.page", PADDED),
        ("decode.page -> infer.page", GAPS),
        ("infer.page", GAPS),
        ("infer.page", SHAPE_UNKNOWN),
    ]
    assert possible_copies(plan)[0].when == "if W is no multiple of 32"


def test_elements_of_one_slot_are_without_gaps_where_each_fills_its_lines() -> None:
    def read(lines: TensorSpec) -> Plan:
        line = TensorSpec("lines", "uint8", lines.shape, lines.max)
        return plan_of(stage("crop", {"ingress": FILE}, (lines,), ragged=True), stage("read", {"crop": line}, (LABELS,), size=2))

    assert found(read(TensorSpec("lines", "uint8", (4, 16), many=5))) == [("crop.lines -> read.lines", GATHERED)]
    assert found(read(TensorSpec("lines", "uint8", (4, 15), many=5)))[1:] == [("crop.lines -> read.lines", GAPS)]
    assert found(read(LINES))[1:] == [("crop.lines -> read.lines", GAPS)]


def test_documents_and_lists_are_never_copied() -> None:
    plan = plan_of(stage("crop", {"ingress": FILE}, (LINES, LABELS), size=4, ragged=True), stage("join", {"crop": LINES}, (LABELS,), size=4))
    assert found(plan) == []


def test_elements_are_decoded_and_encoded_whether_or_not_there_are_batches() -> None:
    names = TensorSpec("names", "bytes", ("n",), {"n": 4, "bytes": 64})
    plan = plan_of(stage("cut", {"ingress": FILE}, (names,)), stage("read", {"cut": names}, (LABELS,), size=4))
    assert possible_copies(plan) == (
        PossibleCopy("cut.names", ENCODED, "whenever the stage gives it"),
        PossibleCopy("cut.names -> read.names", DECODED, "whenever the stage reads it"),
    )


def test_pools_are_rings_if_a_stage_wants_neighbours() -> None:
    plan = classifier(size=4)
    assert {pool.name: order_of(plan, pool) for pool in plan.pools} == {
        "ingress/0": STACK, "decode": RING, "infer": RING, "top": STACK,
    }  # fmt: skip
    assert {order_of(classifier(), pool) for pool in classifier().pools} == {STACK}
    ragged = classifier(size=4, ragged=True)
    assert {order_of(ragged, pool) for pool in ragged.pools} == {STACK}
