"""What the clients of a plan are told, and which of its segments they may attach. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.plan import INGRESS, Plan, producer_of
from pipeline.wire.interface import Interface, Tensor
from pipeline.wire.messages import PoolAddress, Welcome

__all__ = ["interface_of", "welcome_of"]

#: A config is one version of its model.
_VERSION = "1"


def interface_of(plan: Plan) -> Interface:
    """What a client of `plan` is told: names, shapes and dtypes, nothing of how they are computed."""
    return Interface(
        plan.name,
        _VERSION,
        tuple([Tensor.of(spec.name, spec) for spec in plan.inputs]),
        tuple([Tensor.of(name, plan.output_spec(edge)) for name, edge in plan.outputs]),
        tuple([stage.name for stage in plan.stages]),
    )


def welcome_of(plan: Plan, addresses: Sequence[PoolAddress], epoch: int) -> Welcome:
    """What lets a client in.

    Args:
        addresses: where each pool of the plan lies.
        epoch: which life of the scheduler the client is let in to.
    """
    answered = {edge.producer for _, edge in plan.outputs} - {INGRESS}
    ingress, answers = [], []
    for address in addresses:
        producer = producer_of(address.pool)
        if producer == INGRESS:
            ingress.append(address)
        elif producer in answered:
            answers.append(address)
    return Welcome(epoch, interface_of(plan), tuple(ingress), tuple(answers))
