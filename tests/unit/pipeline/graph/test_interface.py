"""What the clients of a plan are told, and what they are not."""

from __future__ import annotations

from msgspec.structs import replace

from pipeline.graph.interface import READS, WRITES, clients_may, interface_of, welcome_of
from pipeline.graph.plan import Edge, PoolPlan
from pipeline.wire.codec import decode, encode
from pipeline.wire.interface import Axis, Interface, Tensor
from pipeline.wire.messages import PoolAddress, Welcome
from stages.spec import TensorSpec
from tests.unit.pipeline.scheduler.graphs import make_plan

IMAGE = TensorSpec("image", "uint8", ("H", "W", 3), {"H": 48, "W": 64})


def test_an_interface_names_the_inputs_the_outputs_and_the_stages() -> None:
    plan = make_plan("early outputs", slots=8, credits=4)
    plan = replace(plan, name="demo", inputs=(IMAGE, TensorSpec("y", "float32", (16,))))
    plan = replace(plan, outputs=(("picture", Edge("ingress", "image")), ("y", Edge("ingress", "y"))))
    picture = (Axis("H", 48), Axis("W", 64), Axis("", 3))
    y = Tensor("y", "float32", (Axis("", 16),))
    # An output has the name that answers have it by, not that of the tensor that it is.
    assert interface_of(plan) == Interface(
        "demo", "1", (Tensor("image", "uint8", picture), y), (Tensor("picture", "uint8", picture), y), ("a", "b", "c")
    )
    assert interface_of(plan).specs == {"image": IMAGE, "y": TensorSpec("y", "float32", (16,))}


def test_a_client_is_told_the_segments_that_it_fills_and_those_that_answers_lie_in_and_no_other() -> None:
    plan = make_plan("early outputs", slots=8, credits=4)
    pools = ("ingress/0", "ingress/1", "b", "a/0", "a/1", "c")
    plan = replace(
        plan,
        outputs=(("x", Edge("ingress", "x")), ("q", Edge("a", "q"))),
        pools=tuple(PoolPlan(name, 64, 8) for name in pools),
    )
    addresses = [PoolAddress("posix", f"/seg-{number}", name) for number, name in enumerate(pools)]
    welcome = welcome_of(plan, addresses, 3)
    assert welcome == Welcome(
        3,
        interface_of(plan),
        (addresses[0], addresses[1]),
        (addresses[3], addresses[4]),
    )
    assert decode(encode(welcome)) == welcome


def test_nothing_of_how_a_stage_computes_is_told() -> None:
    plan = make_plan("early outputs", slots=8, credits=4)
    secret = "a-secret-of-the-operator"
    first, *others = plan.stages
    worker = replace(first.workers[0], env={"API_KEY": secret})
    first = replace(first, use=f"{secret}:Stage", options={"key": secret}, workers=(worker,))
    plan = replace(plan, stages=(first, *others), config_path=f"/{secret}.yaml", base_dir=f"/{secret}")
    assert secret.encode() not in encode(welcome_of(plan, [], 0))


def test_clients_write_the_pools_of_requests_read_those_of_answers_and_touch_no_other() -> None:
    plan = make_plan("early outputs", slots=8, credits=4)
    plan = replace(plan, outputs=(("x", Edge("ingress", "x")), ("q", Edge("a", "q"))))
    may = {pool: clients_may(plan, pool) for pool in ("ingress/0", "ingress/1", "b", "a", "a/1", "c")}
    assert may == {"ingress/0": WRITES, "ingress/1": WRITES, "b": None, "a": READS, "a/1": READS, "c": None}
