"""What the clients of a plan are told, and which of its segments they may attach. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.plan import INGRESS, Plan, producer_of
from pipeline.wire.interface import Interface, Tensor
from pipeline.wire.messages import PoolAddress, Welcome

__all__ = ["READS", "WRITES", "clients_may", "interface_of", "welcome_of"]

#: What clients may do with the segment of a pool.
READS, WRITES = "reads", "writes"

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
        plan.max_batch_size,
        plan.in_parts,
        plan.rows,
    )


def welcome_of(plan: Plan, addresses: Sequence[PoolAddress], epoch: int) -> Welcome:
    """What lets a client in.

    Args:
        addresses: where each pool of the plan lies.
        epoch: which life of the scheduler the client is let in to.
    """
    may = [clients_may(plan, address.pool) for address in addresses]
    ingress = tuple([address for address, use in zip(addresses, may) if use == WRITES])
    answers = tuple([address for address, use in zip(addresses, may) if use == READS])
    return Welcome(epoch, interface_of(plan), ingress, answers)


def clients_may(plan: Plan, pool: str) -> str | None:
    """What clients do with the slots of the pool of that name: `WRITES`, `READS`, or None: they never touch them."""
    producer = producer_of(pool)
    if producer == INGRESS:
        return WRITES
    return READS if any(edge.producer == producer for _, edge in plan.outputs) else None
